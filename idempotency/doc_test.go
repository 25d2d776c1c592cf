package idempotency_test

import (
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The type of each problem is the address of a paragraph in the package documentation, and there is no paragraph
// without problem.
func TestProblemTypesAreDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	require.NoError(t, err)
	var documented []string
	for _, block := range new(doc.Package).Parser().Parse(file.Doc.Text()).Content {
		if h, ok := block.(*comment.Heading); ok {
			if id := h.DefaultID(); regexp.MustCompile(`^hdr-Problem_`).MatchString(id) {
				documented = append(documented, id)
			}
		}
	}
	source, err := os.ReadFile("problem.go")
	require.NoError(t, err)
	var answered []string
	for _, match := range regexp.MustCompile(`typeBase \+ "(\w+)"`).FindAllSubmatch(source, -1) {
		answered = append(answered, "hdr-Problem_"+string(match[1]))
	}
	require.NotEmpty(t, answered)
	require.ElementsMatch(t, answered, documented)
}
