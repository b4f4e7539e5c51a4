package sysdiff

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // it is what dpkg records
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/dpkg"
	"rubus/images/layered"
	"rubus/images/treediff"
)

// Report is how a root differs from another.
type Report struct {
	// Packages changed; empty where there is no package database.
	Packages []dpkg.Change `json:"packages"`
	// Conffiles are no longer what their package brought.
	Conffiles []Conffile `json:"conffiles"`
	Files     []File     `json:"files"`
	Totals    Totals     `json:"totals"`
}

// Conffile is a configuration file of a package that was changed by hand.
type Conffile struct {
	Path    string `json:"path"`
	Package string `json:"package"`
	// State is "edited" or "removed".
	State string `json:"state"`
}

// File is one name that differs.
type File struct {
	treediff.Change
	// Package is the changed package that the file came, went or changed with, or
	// "dpkg" for what package managers note and fetch; "" for all else.
	Package string `json:"package,omitempty"`
}

// Totals count names; Grown is by how many bytes the regular files grew.
type Totals struct {
	Added    int   `json:"added"`
	Removed  int   `json:"removed"`
	Changed  int   `json:"changed"`
	Metadata int   `json:"metadata"`
	Renamed  int   `json:"renamed"`
	Grown    int64 `json:"grown_bytes"`
}

// All is how many names differ.
func (t Totals) All() int { return t.Added + t.Removed + t.Changed + t.Metadata + t.Renamed }

// maxList bounds one file of dpkg's database that is read whole, in bytes.
const maxList = 16 << 20

// Compare reports how the root after differs from before. A package database that
// cannot be read is as none. told, when not nil, is called with how many names were seen so far.
func Compare(ctx context.Context, before, after *layered.View, told func(names int64)) (*Report, error) {
	changes, err := treediff.Compare(ctx, before, after, told)
	if err != nil {
		return nil, err
	}
	r := &Report{Packages: []dpkg.Change{}, Conffiles: []Conffile{}, Files: []File{}}
	old, now := dpkg.Read(before.ReadFile), dpkg.Read(after.ReadFile)
	if c := dpkg.Compare(old, now); c != nil {
		r.Packages = c
	}
	owners := dpkg.Owners{}
	for _, p := range r.Packages {
		addOwner(owners, before, p)
		addOwner(owners, after, p)
	}
	conffiles := now.Conffiles()
	for _, c := range changes {
		r.Totals.add(c)
		f := File{Change: c, Package: owners.Of(c.Path)}
		if f.Package == "" && isManagers(c.Path) {
			f.Package = "dpkg"
		}
		r.Files = append(r.Files, f)
		if have, ok := conffiles[c.Path]; ok {
			if state := edited(after, c, have.MD5); state != "" {
				r.Conffiles = append(r.Conffiles, Conffile{Path: c.Path, Package: have.Package, State: state})
			}
		}
	}
	return r, nil
}

// Without takes paths out of a report, and out of its totals.
func (r *Report) Without(paths map[string]bool) {
	r.Totals = Totals{}
	r.Files = slices.DeleteFunc(r.Files, func(f File) bool {
		if !paths[f.Path] {
			r.Totals.add(f.Change)
		}
		return paths[f.Path]
	})
	r.Conffiles = slices.DeleteFunc(r.Conffiles, func(c Conffile) bool { return paths[c.Path] })
}

func (t *Totals) add(c treediff.Change) {
	switch c.Kind {
	case treediff.Added:
		t.Added++
	case treediff.Removed:
		t.Removed++
	case treediff.Changed:
		t.Changed++
	case treediff.Metadata:
		t.Metadata++
	case treediff.Renamed:
		t.Renamed++
	}
	t.Grown += c.After - c.Before
}

func addOwner(o dpkg.Owners, v *layered.View, p dpkg.Change) {
	for _, name := range []string{p.Package, p.Package + ":" + p.Arch} {
		file := name + ".list"
		if b, err := v.ReadFile(path.Join(dpkg.InfoDir, file), maxList); err == nil {
			o.Add(file, b)
		}
	}
}

// isManagers says whether a path is what dpkg and apt keep for themselves.
func isManagers(p string) bool {
	for _, dir := range []string{"var/lib/dpkg", "var/lib/apt", "var/cache/apt", "var/cache/debconf", "var/log/apt"} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return p == "var/log/dpkg.log" || p == "etc/ld.so.cache"
}

// edited says whether a changed conffile is not what its package brought.
func edited(after *layered.View, c treediff.Change, want string) string {
	if c.Kind == treediff.Removed {
		return "removed"
	}
	if c.New == nil || !c.New.IsRegular() || c.New.Stat.Size > dpkg.MaxConffile {
		return "edited"
	}
	f, err := after.Open(c.New)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := md5.New() //nolint:gosec // as above
	if _, err := io.Copy(h, f); err != nil || hex.EncodeToString(h.Sum(nil)) == want {
		return ""
	}
	return "edited"
}

// Text reads a small text file of a tree; ok is false for anything else: what is
// large or has NUL bytes is not shown as text.
func Text(v *layered.View, n *layered.Node) (b []byte, ok bool, err error) {
	const largest = 1 << 20
	switch {
	case n == nil:
		return nil, true, nil
	case !n.IsRegular() || n.Stat.Size > largest:
		return nil, false, nil
	}
	f, err := v.Open(n)
	if errors.Is(err, unix.ENOENT) {
		return nil, true, nil // gone since
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	b, err = io.ReadAll(io.LimitReader(f, largest))
	if err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", "/"+n.Path, err)
	}
	return b, bytes.IndexByte(b, 0) < 0, nil
}
