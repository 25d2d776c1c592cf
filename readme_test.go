package sagamill_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's snippets are cut from programs that are compiled and run by the tests, word for word.
func TestReadmeSnippetsAreTested(t *testing.T) {
	t.Parallel()
	var tested strings.Builder
	for _, name := range []string{"examples/trip/main.go", "saga/example_test.go", "saga/example_http_test.go", "saga/sagatest/stay_test.go", "saga/operator/example_test.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		tested.Write(text)
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	require.GreaterOrEqual(t, len(snippets), 9)
	for _, s := range snippets {
		require.True(t, strings.Contains(tested.String(), string(s[1])), "the README shows code that no test runs:\n%s", s[1])
	}
}

// Links to files of the repository lead somewhere.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		text = regexp.MustCompile("(?s)```.*?```").ReplaceAll(text, nil)
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllSubmatch(text, -1) {
			if target := string(link[1]); !strings.Contains(target, "://") {
				_, err := os.Stat(target)
				require.NoErrorf(t, err, "in %s", doc)
			}
		}
	}
}

// The tests that DESIGN.md names for its rules exist.
func TestDesignNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	design, err := os.ReadFile("DESIGN.md")
	require.NoError(t, err)
	var tests strings.Builder
	for _, pattern := range []string{"saga/*_test.go", "compensation/*_test.go", "statemachine/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range files {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			tests.Write(text)
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+|[a-z-]+\\.txt)`").FindAllSubmatch(design, -1)
	require.Greater(t, len(named), 50)
	for _, n := range named {
		if name := string(n[1]); strings.HasSuffix(name, ".txt") {
			require.FileExists(t, "saga/testdata/"+name)
		} else {
			require.True(t, strings.Contains(tests.String(), "func "+name+"("), name)
		}
	}
}
