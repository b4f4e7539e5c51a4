package spending

import (
	"testing"

	"golang.org/x/sys/unix"
)

// file has a size, and so many blocks of the file system.
func file(size, blocks int64) unix.Stat_t {
	return unix.Stat_t{Mode: unix.S_IFREG, Size: size, Blocks: blocks * Block / 512}
}

func TestBytes(t *testing.T) {
	dir := unix.Stat_t{Mode: unix.S_IFDIR, Size: 10, Blocks: 16}
	for name, c := range map[string]struct {
		st   unix.Stat_t
		want int64
	}{
		"an empty file":                {file(0, 0), 0},
		"one byte":                     {file(1, 1), Block},
		"a block":                      {file(Block, 1), Block},
		"a byte more":                  {file(Block+1, 2), 2 * Block},
		"kept ready behind the end":    {file(Block, 16), Block},
		"kept ready for an empty file": {file(0, 16), 0},
		"a hole":                       {file(100*Block, 3), 3 * Block},
		"not yet written out":          {file(100, 0), 0},
		"a directory by its blocks":    {dir, 16 * 512},
	} {
		if got := Bytes(&c.st); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestLastBlock(t *testing.T) {
	link := unix.Stat_t{Mode: unix.S_IFLNK, Size: 10}
	for name, c := range map[string]struct {
		st   unix.Stat_t
		want int64
	}{
		"a whole file":               {file(10, 1), 0},
		"a hole at the end":          {file(10*Block+10, 3), Block},
		"a hole that ends a block":   {file(10*Block, 3), 0},
		"an empty file":              {file(0, 0), 0},
		"a symbolic link in its own": {link, 0},
	} {
		if got := LastBlock(&c.st); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	for name, c := range map[string]struct {
		st     unix.Stat_t
		off, n int64
		want   int64
		inside bool
	}{
		"the first byte":                       {file(0, 0), 0, 1, Block, false},
		"over what is there":                   {file(2*Block, 2), 10, 100, 0, false},
		"in the last block, past the end":      {file(Block+10, 2), Block + 5, 1000, 0, false},
		"to the end of the last block":         {file(Block+10, 2), 0, 2 * Block, 0, false},
		"a byte past the last block":           {file(Block+10, 2), 0, 2*Block + 1, 3 * Block, false},
		"appended":                             {file(2*Block, 2), 2 * Block, 10, Block, false},
		"appended across blocks":               {file(2*Block, 2), 2 * Block, Block + 1, 2 * Block, false},
		"far behind the end":                   {file(Block, 1), 100*Block + 5, 10, Block, false},
		"across a block's edge":                {file(0, 0), Block - 1, 2, 2 * Block, false},
		"into holes":                           {file(100*Block, 3), 10 * Block, 10, Block, true},
		"into holes, to the last byte":         {file(100*Block, 3), 99 * Block, Block, Block, true},
		"into holes and past the end":          {file(100*Block, 3), 99 * Block, Block + 1, 2 * Block, false},
		"behind a hole at the end":             {file(10*Block+10, 3), 20 * Block, 10, 2 * Block, false},
		"behind a hole, in the last block":     {file(10*Block+10, 3), 10*Block + 20, 10, Block, false},
		"behind a hole that ends with a block": {file(10*Block, 3), 10 * Block, 10, Block, false},
	} {
		if got, inside := Growth(&c.st, c.off, c.n); got != c.want || inside != c.inside {
			t.Errorf("%s: %d, inside %v, want %d, %v", name, got, inside, c.want, c.inside)
		}
	}
}
