package deploy

import (
	"fmt"
	"strings"
)

// suggestion is a parenthesis naming the known word that given most likely stands for, or nothing.
func suggestion(given string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if strings.EqualFold(given, k) {
			return fmt.Sprintf(" (did you mean %q?)", k)
		}
		// Words of a few letters are near to anything.
		if d := editDistance(given, k); d < distance && d < max(len(given), len(k))/2+1 {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's; words longer than 64 bytes are taken as far apart.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
