package treesum

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Files calls each for every regular file of a listing, in its order, once for each
// inode; an error of each ends it. What r gives need not be a listing: that is an error.
func Files(r io.Reader, each func(path string, size int64, sum Sum) error) error {
	l := newLines(r)
	for ; l.path != nil; l.next() {
		if !strings.HasPrefix(l.line, "f ") {
			continue
		}
		f := strings.Fields(l.line)
		size, err := strconv.ParseInt(f[5], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("a listing has a file of size %q", f[5])
		}
		var sum Sum
		if n, err := hex.Decode(sum[:], []byte(f[6][:min(len(f[6]), 2*len(sum))])); err != nil || n != len(sum) {
			return fmt.Errorf("a listing has a file with the hash %q", f[6])
		}
		if err := each(unescape(f[7]), size, sum); err != nil {
			return err
		}
	}
	return l.err
}
