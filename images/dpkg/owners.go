package dpkg

import (
	"bufio"
	"bytes"
	"strings"
)

// Owners says which package has a file: by path, relative to the root.
type Owners map[string]string

// Add takes the content of a file of InfoDir, NAME.list: the paths of one
// package, a line each. Files of another name are ignored.
func (o Owners) Add(file string, content []byte) {
	name, ok := strings.CutSuffix(file, ".list")
	if !ok {
		return
	}
	name, _, _ = strings.Cut(name, ":") // "libc6:armhf"
	s := bufio.NewScanner(bytes.NewReader(content))
	for s.Scan() {
		if p, ok := strings.CutPrefix(s.Text(), "/"); ok && p != "." {
			o[p] = name
		}
	}
}

// Of is the package that has the file at a path; "": none. With a merged /usr
// (usr/bin/x is also bin/x) the database may know the other name.
func (o Owners) Of(path string) string {
	if p, ok := o[path]; ok {
		return p
	}
	if rest, ok := strings.CutPrefix(path, "usr/"); ok {
		return o[rest]
	}
	return ""
}
