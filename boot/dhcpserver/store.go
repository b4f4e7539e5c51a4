package dhcpserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// maxLeaseFile bounds what is read of a lease's file, in bytes.
const maxLeaseFile = 4096

// store keeps leases on disk: a file for each address, replaced whole. There
// are never more files than addresses.
type store struct{ dir string }

func (s store) path(a netip.Addr) string { return filepath.Join(s.dir, a.String()+".json") }

// save puts a lease on disk; when it returns, a power cut leaves it there.
func (s store) save(l Lease) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("writing the lease of %s: %w", l.Address, err)
	}
	// WithTempDir: else two files are made and renamed to find out where one can be.
	if err := renameio.WriteFile(s.path(l.Address), append(b, '\n'), 0o600, renameio.WithTempDir(s.dir)); err != nil {
		return fmt.Errorf("writing the lease of %s: %w", l.Address, err)
	}
	d, err := os.Open(s.dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("writing the lease of %s: %w", l.Address, err)
	}
	return nil
}

// load reads all leases. What cannot be read is logged and left alone: the
// address is asked for before it is given to anybody. What ended longer than
// keep ago is removed.
func (s store) load(now time.Time, keep time.Duration, log *slog.Logger) ([]Lease, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of leases: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the leases: %w", err)
	}
	var out []Lease
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		addr, err := netip.ParseAddr(name)
		if !ok || err != nil {
			if strings.HasPrefix(e.Name(), ".") { // what a kill left of a file in the making
				_ = os.Remove(filepath.Join(s.dir, e.Name()))
			}
			continue
		}
		l, err := s.read(addr)
		switch {
		case err != nil:
			log.Warn("a lease cannot be read", "address", addr, "err", err)
		case now.Sub(l.Until) > keep:
			if err := os.Remove(s.path(addr)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				log.Warn("an old lease cannot be removed", "address", addr, "err", err)
			}
		default:
			out = append(out, l)
		}
	}
	return out, nil
}

// Leases reads who was given an address, from the directory of a Server that may be
// at work: the addresses in order. A file that cannot be read is left out.
func Leases(dir string) ([]Lease, error) {
	s := store{dir}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the leases: %w", err)
	}
	var out []Lease
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		addr, err := netip.ParseAddr(name)
		if !ok || err != nil {
			continue
		}
		if l, err := s.read(addr); err == nil {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return out, nil
}

func (s store) read(addr netip.Addr) (Lease, error) {
	f, err := os.Open(s.path(addr))
	if err != nil {
		return Lease{}, err
	}
	defer f.Close()
	b := make([]byte, maxLeaseFile)
	n, err := f.Read(b)
	if err != nil {
		return Lease{}, err
	}
	return parseLease(addr, b[:n])
}

// parseLease reads a lease's file.
func parseLease(addr netip.Addr, b []byte) (Lease, error) {
	var l Lease
	if err := json.Unmarshal(b, &l); err != nil {
		return Lease{}, err
	}
	switch {
	case l.Address != addr || !addr.Is4():
		return Lease{}, fmt.Errorf("the file is that of %s, its lease of %s", addr, l.Address)
	case l.State == Conflict && l.MAC.IsZero():
	case (l.State == Bound || l.State == Released) && !l.MAC.IsZero():
	default:
		return Lease{}, fmt.Errorf("state %q of client %q makes no sense", l.State, l.MAC)
	}
	l.Host = hostName(l.Host)
	return l, nil
}

// hostName is what a client calls itself, without what does not belong into a
// name: it is shown to people.
func hostName(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x7f && r > ' ' && r != '"' && r != '\\' {
			return r
		}
		return -1
	}, s)
	return clean[:min(len(clean), 63)]
}
