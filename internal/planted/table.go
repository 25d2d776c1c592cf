package main

import (
	"io"
	"strings"
	"text/tabwriter"
)

// table prints rows in aligned columns.
func table(to io.Writer, head []string, rows [][]string) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(cells []string) error {
		_, err := io.WriteString(w, strings.Join(cells, "\t")+"\n")
		return err
	}
	if err := line(head); err != nil {
		return err
	}
	for _, row := range rows {
		if err := line(row); err != nil {
			return err
		}
	}
	return w.Flush()
}
