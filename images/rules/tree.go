package rules

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
)

// Tree is a root file system in which paths lead where they would lead on a board.
type Tree struct{ v *layered.View }

// NewTree makes a tree of a stack of layers. It is valid as long as the view is open.
func NewTree(v *layered.View) *Tree { return &Tree{v} }

const (
	maxLinks = 40
	maxFile  = 1 << 20
)

// errAbsent says that nothing is there.
var errAbsent = errors.New("it is not there")

// find gives the path without links that an absolute path means, and what is there; nil: nothing.
// The last element is followed only if that is asked for.
func (t *Tree) find(p string, follow bool) (string, *layered.Node, error) {
	root, err := t.v.Root()
	if err != nil {
		return "", nil, err
	}
	// at holds the directories from the root to where the walk is.
	at := []*layered.Node{root}
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		dir := at[len(at)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		if dir == nil || !dir.IsDir() {
			return "", nil, fmt.Errorf("%q leads through %q, which is no directory: %w", p, "/"+dir.Path, unix.ENOTDIR)
		}
		n, err := t.v.Child(dir, name)
		if errors.Is(err, unix.ENOENT) {
			for _, name := range todo {
				if name == ".." {
					return "", nil, fmt.Errorf("%q leads through nothing: %w", p, unix.ENOENT)
				}
			}
			return path.Join(append([]string{"/", dir.Path, name}, todo...)...), nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		if n.Stat.Mode&unix.S_IFMT != unix.S_IFLNK || len(todo) == 0 && !follow {
			at = append(at, n)
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%q: %w", p, unix.ELOOP)
		}
		target, err := t.v.Readlink(n)
		if err != nil {
			return "", nil, err
		}
		if path.IsAbs(target) {
			at = at[:1]
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	n := at[len(at)-1]
	return "/" + n.Path, n, nil
}

// Exists says whether there is something at an absolute path, links followed.
func (t *Tree) Exists(p string) (bool, error) {
	_, n, err := t.find(p, true)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return n != nil, err
}

// Read reads a regular file of at most 1 MiB, links followed. What is not there, or no
// regular file, is errAbsent.
func (t *Tree) Read(p string) ([]byte, error) {
	_, n, err := t.find(p, true)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || err == nil && (n == nil || !n.IsRegular()) {
		return nil, fmt.Errorf("reading %q: %w", p, errAbsent)
	}
	if err != nil {
		return nil, err
	}
	return t.v.ReadFile(n.Path, maxFile)
}

// names are what a directory holds, links followed; nothing when it is none.
func (t *Tree) names(p string) ([]*layered.Node, error) {
	_, n, err := t.find(p, true)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || err == nil && (n == nil || !n.IsDir()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t.v.List(n)
}
