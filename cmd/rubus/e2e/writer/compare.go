package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// compare says how what is below dir differs from what the journals say. The
// first line counts; each other line is a finding.
func compare(dir, journals string) error {
	var sum account
	var wrong []string
	for i := range workers {
		a, err := readJournal(journalName(journals, i))
		if err != nil {
			return err
		}
		sum.ops += a.ops
		sum.tolerated += a.tolerated
		sum.notes = append(sum.notes, a.notes...)
		sum.failures = append(sum.failures, a.failures...)
		wrong = append(wrong, differences(workerDir(dir, i), a.model.root)...)
	}
	fmt.Printf("ops=%d tolerated=%d failed=%d wrong=%d\n", sum.ops, sum.tolerated, len(sum.failures), len(wrong))
	for _, l := range [][]string{sum.failures, wrong, sum.notes} {
		for _, s := range l {
			fmt.Println(s)
		}
	}
	return nil
}

// differences says how a directory differs from what it must be.
func differences(at string, want *node) (found []string) {
	list, err := os.ReadDir(at)
	if err != nil {
		return []string{err.Error()}
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name()] = true
		if want.kids[e.Name()] == nil {
			found = append(found, fmt.Sprintf("%s: there, and should not be", filepath.Join(at, e.Name())))
		}
	}
	for name, n := range want.kids {
		p := filepath.Join(at, name)
		switch {
		case !there[name]:
			found = append(found, p+": lost")
		case n.kind == dir:
			found = append(append(found, wrongAttr(p, n)...), differences(p, n)...)
		default:
			found = append(append(found, wrongAttr(p, n)...), wrongContent(p, n)...)
		}
	}
	return found
}

func wrongAttr(p string, n *node) (found []string) {
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
	if l := int(st.Nlink); n.kind != dir && l != n.links && !(n.golden && l == n.links+1) {
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

func wrongContent(p string, n *node) []string {
	switch n.kind {
	case file:
		b, err := os.ReadFile(p)
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
