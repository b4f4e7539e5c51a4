package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// compare says how what is below dir differs from what the journals say. The
// first line counts; each other line is a finding. What is left of removed open
// files under the client's names is counted on its own.
func compare(dir, journals string) error {
	var sum account
	var wrong []string
	left := leftovers{}
	for i := range workers {
		a, err := readJournal(journalName(journals, i))
		if err != nil {
			return err
		}
		sum.ops += a.ops
		sum.tolerated += a.tolerated
		sum.waited += a.waited
		sum.notes = append(sum.notes, a.notes...)
		sum.failures = append(sum.failures, a.failures...)
		if err := left.find(workerDir(dir, i)); err != nil {
			wrong = append(wrong, err.Error())
		}
		wrong = append(wrong, left.differences(workerDir(dir, i), a.model.root)...)
	}
	fmt.Printf("ops=%d tolerated=%d failed=%d wrong=%d left=%d waited=%d\n", sum.ops, sum.tolerated, len(sum.failures), len(wrong), left.names(), sum.waited)
	for _, l := range [][]string{sum.failures, wrong, sum.notes} {
		for _, s := range l {
			fmt.Println(s)
		}
	}
	return nil
}

// leftovers are how many of the client's names for removed open files (.nfs...)
// each object has, by its number.
type leftovers map[uint64]int

func isLeftover(name string) bool { return strings.HasPrefix(name, ".nfs") }

func (l leftovers) find(dir string) error {
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !isLeftover(e.Name()) {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(p, &st)
		l[st.Ino]++
		return err
	})
}

func (l leftovers) names() (n int) {
	for _, of := range l {
		n += of
	}
	return n
}

// differences says how a directory differs from what it must be.
func (l leftovers) differences(at string, want *node) (found []string) {
	list, err := os.ReadDir(at)
	if err != nil {
		return []string{err.Error()}
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name()] = true
		if want.kids[e.Name()] == nil && !isLeftover(e.Name()) {
			found = append(found, fmt.Sprintf("%s: there, and should not be", filepath.Join(at, e.Name())))
		}
	}
	for name, n := range want.kids {
		p := filepath.Join(at, name)
		switch {
		case !there[name]:
			found = append(found, p+": lost")
		case n.kind == dir:
			found = append(append(found, l.wrongAttr(p, n)...), l.differences(p, n)...)
		default:
			found = append(append(found, l.wrongAttr(p, n)...), wrongContent(p, n)...)
		}
	}
	return found
}

func (l leftovers) wrongAttr(p string, n *node) (found []string) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return []string{fmt.Sprintf("%s: %v", p, err)}
	}
	say := func(what string, got, want any) {
		found = append(found, fmt.Sprintf("%s: %s %v, want %v", p, what, got, want))
	}
	if st.Mode&unix.S_IFMT != formats[n.kind] {
		say("type", fmt.Sprintf("%o", st.Mode&unix.S_IFMT), string(n.kind))
	}
	if n.kind != symlink && st.Mode&0o7777 != n.mode {
		say("mode", fmt.Sprintf("%o", st.Mode&0o7777), fmt.Sprintf("%o", n.mode))
	}
	if links := int(st.Nlink) - l[st.Ino]; n.kind != dir && links != n.links && !(n.golden && links == n.links+1) {
		say("links", st.Nlink, n.links)
	}
	if n.kind == file && st.Size != int64(len(n.data)) {
		say("size", st.Size, len(n.data))
	}
	if n.mtime != 0 && st.Mtim.Nano() != n.mtime {
		say("mtime", st.Mtim.Nano(), n.mtime)
	}
	return found
}

// readFile is os.ReadFile that does not wait at a fifo.
func readFile(p string) ([]byte, error) {
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func wrongContent(p string, n *node) []string {
	switch n.kind {
	case file:
		b, err := readFile(p)
		if err != nil {
			return []string{err.Error()}
		}
		if !bytes.Equal(b, n.data) {
			return []string{fmt.Sprintf("%s: content: %s", p, differ(b, n.data))}
		}
	case symlink:
		if text, err := os.Readlink(p); err != nil || text != n.text {
			return []string{fmt.Sprintf("%s: text %q (%v), want %q", p, text, err, n.text)}
		}
	}
	return nil
}
