package dpkg

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Where the database lies in a root, relative to it (dpkg(1), FILES).
const (
	// MaxConffile bounds what is read of a configuration file, in bytes: a larger one is
	// not what its package brought.
	MaxConffile = 64 << 20

	StatusPath = "var/lib/dpkg/status"
	InfoDir    = "var/lib/dpkg/info"
	// MaxStatus bounds a status file, in bytes: that of a desktop has some 5 MiB.
	MaxStatus = 64 << 20
)

// Package is what the database says of one package.
type Package struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"`
	// Status is three words: what is wanted, errors, state ("install ok installed").
	Status string `json:"status"`
	// Conffiles are the configuration files by path, relative to the root, with the MD5
	// of the content that the package brought, in hex.
	Conffiles map[string]string `json:"-"`
}

// Installed says that the package is unpacked and configured.
func (p *Package) Installed() bool { return strings.HasSuffix(p.Status, " installed") }

// Key tells packages of one database apart: a name may be there for several
// architectures.
func (p *Package) Key() string { return p.Name + ":" + p.Arch }

// DB is a database by Key.
type DB map[string]Package

// maxLine bounds one line: a field that lists dependencies.
const maxLine = 1 << 20

// Read gives the database of a root by what reads the root's files, each to a limit in bytes; it is
// empty when there is none, or none that can be read.
func Read(readFile func(path string, limit int64) ([]byte, error)) DB {
	b, err := readFile(StatusPath, MaxStatus)
	if err != nil {
		return DB{}
	}
	db, err := Parse(bytes.NewReader(b))
	if err != nil {
		return DB{}
	}
	return db
}

// Parse reads a status file. What is in it is a board's: a stanza without a name is
// skipped, a line longer than 1 MiB is an error.
func Parse(r io.Reader) (DB, error) {
	db := DB{}
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	var p Package
	field := ""
	end := func() {
		if p.Name != "" {
			db[p.Key()] = p
		}
		p, field = Package{}, ""
	}
	for s.Scan() {
		line := s.Text()
		switch {
		case strings.TrimSpace(line) == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if field == "Conffiles" {
				p.addConffile(line)
			}
		default:
			var value string
			field, value, _ = strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch field {
			case "Package":
				p.Name = value
			case "Architecture":
				p.Arch = value
			case "Version":
				p.Version = value
			case "Status":
				p.Status = value
			}
		}
	}
	end()
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("reading the package database: %w", err)
	}
	return db, nil
}

// addConffile reads " /etc/foo 0123…ef [obsolete|remove-on-upgrade]".
func (p *Package) addConffile(line string) {
	f := strings.Fields(line)
	if len(f) < 2 || !strings.HasPrefix(f[0], "/") || len(f[1]) != 32 {
		return
	}
	for _, flag := range f[2:] {
		if flag == "obsolete" {
			return
		}
	}
	if p.Conffiles == nil {
		p.Conffiles = map[string]string{}
	}
	p.Conffiles[strings.TrimPrefix(f[0], "/")] = f[1]
}

// Conffiles are the configuration files of all packages: by path, the package and
// the MD5 it brought.
func (db DB) Conffiles() map[string]Conffile {
	out := map[string]Conffile{}
	for _, p := range db {
		for path, sum := range p.Conffiles {
			out[path] = Conffile{Package: p.Name, MD5: sum}
		}
	}
	return out
}

// Conffile is one configuration file.
type Conffile struct{ Package, MD5 string }
