package config

import (
	"bytes"
	"regexp"
	"strconv"
)

var yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// maxSyntaxSearch bounds the file in which the line of a syntax error is
// searched, in bytes, as the search reads it dozens of times.
const maxSyntaxSearch = 512 << 10

// syntaxError makes line and message of an error of the YAML library. Its
// arguments fit reader.linef.
func syntaxError(data []byte, err error) (line int, format string, msg any) {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, "%s", err.Error()
	}
	// The library names the line where the broken construct begins, or the one
	// before it, or none.
	line, _ = strconv.Atoi(m[1])
	if len(data) <= maxSyntaxSearch {
		line = brokenLine(data)
	}
	hints := map[string]string{
		"did not find expected '-' indicator":                   ": is the indentation right?",
		"did not find expected key":                             ": is the indentation right?",
		"mapping values are not allowed in this context":        ": is the indentation right?",
		"found character that cannot start any token":           ": indent with spaces, not tabs, and quote @ and `",
		"did not find expected ',' or ']'":                      ": is a bracket or a quote missing?",
		"did not find expected ',' or '}'":                      ": is a bracket or a quote missing?",
		"did not find expected node content":                    ": is a bracket or a quote missing?",
		"found unexpected end of stream":                        ": is a quote missing?",
		"found a tab character that violates indentation":       ": indent with spaces",
		"could not find expected ':'":                           ": want key: value",
		"did not find expected alphabetic or numeric character": ": quote * and &",
	}
	return line, "not YAML: %s", m[2] + hints[m[2]]
}

// brokenLine is the line, from 1, that makes data unreadable: the one after
// the longest run of first lines that can be read for themselves. Shorter runs
// may be unreadable too, as they may end inside brackets or quotes.
func brokenLine(data []byte) int {
	var ends []int // ends[i] is where line i+1 ends
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	readable := func(lines int) bool {
		if lines == 0 {
			return true
		}
		_, err := Decode(data[:ends[lines-1]])
		return err == nil
	}
	// ahead is how many lines one construct that spans lines may have.
	const ahead = 40
	good := 0
	for {
		lo, hi := good, len(ends)+1
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; mid <= len(ends) && readable(mid) {
				lo = mid
			} else {
				hi = mid
			}
		}
		good = lo
		for n := lo + 2; n <= min(lo+ahead, len(ends)); n++ {
			if readable(n) {
				good = n
				break
			}
		}
		if good == lo {
			return min(lo+1, max(1, bytes.Count(data, []byte("\n"))+1))
		}
	}
}
