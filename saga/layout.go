package saga

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Tables of plain text, for people.

const (
	pageWidth = 100
	gap       = "  "
	narrowest = 16 // of the last column, which gets what the others leave
)

// widest is how wide the columns of a table get before their cells are broken into lines.
var widest = []int{30, 34, 26}

// layout writes rows of cells as a table. Cells are broken at spaces.
func layout(b *strings.Builder, rows [][]string) {
	last := len(rows[0]) - 1
	widths, total := make([]int, last+1), 0
	for col := range last {
		for _, row := range rows {
			widths[col] = max(widths[col], min(widest[col], utf8.RuneCountInString(row[col])), longestWord(row[col]))
		}
		total += widths[col] + len(gap)
	}
	widths[last] = max(pageWidth-total, narrowest)
	for _, row := range rows {
		cells, height := make([][]string, len(row)), 0
		for col, text := range row {
			cells[col] = broken(text, widths[col])
			height = max(height, len(cells[col]))
		}
		for k := range height {
			var line strings.Builder
			for col := range row {
				text := ""
				if k < len(cells[col]) {
					text = cells[col][k]
				}
				fmt.Fprintf(&line, "%-*s%s", widths[col], text, gap)
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
	}
}

func longestWord(text string) (longest int) {
	for _, word := range strings.Fields(text) {
		longest = max(longest, utf8.RuneCountInString(word))
	}
	return longest
}

// broken breaks a text into lines of words.
func broken(text string, width int) (lines []string) {
	for _, word := range strings.Fields(text) {
		n := len(lines) - 1
		if n >= 0 && utf8.RuneCountInString(lines[n])+1+utf8.RuneCountInString(word) <= width {
			lines[n] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
