package bounds_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/internal/mounttest"
	"rubus/images/internal/onefs"
)

func open(t *testing.T, dir string) int {
	t.Helper()
	fd, err := onefs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestLimits(t *testing.T) {
	const gib = 1 << 30
	fd := open(t, t.TempDir())
	for name, c := range map[string]struct {
		limits bounds.Limits
		ask    func(s *bounds.Space) error
		want   error
	}{
		"content at the limit":     {bounds.Limits{MaxBytes: 10}, func(s *bounds.Space) error { return s.Take(10) }, nil},
		"content over it":          {bounds.Limits{MaxBytes: 10}, func(s *bounds.Space) error { return s.Take(11) }, bounds.ErrTooBig},
		"content over it in parts": {bounds.Limits{MaxBytes: 10}, func(s *bounds.Space) error { return errors.Join(s.Take(10), s.Take(1)) }, bounds.ErrTooBig},
		"sizes at the limit":       {bounds.Limits{MaxSize: 10}, func(s *bounds.Space) error { return errors.Join(s.Entry(4), s.Entry(6)) }, nil},
		"sizes over it together":   {bounds.Limits{MaxSize: 10}, func(s *bounds.Space) error { return errors.Join(s.Entry(4), s.Entry(7)) }, bounds.ErrTooBig},
		"a negative size":          {bounds.Limits{}, func(s *bounds.Space) error { return s.Entry(-1) }, bounds.ErrTooBig},
		"sizes that overflow":      {bounds.Limits{}, func(s *bounds.Space) error { return errors.Join(s.Entry(1<<63-1), s.Entry(1<<63-1)) }, bounds.ErrTooBig},
		"256 GiB":                  {bounds.Limits{}, func(s *bounds.Space) error { return s.Entry(256 * gib) }, nil},
		"more than 256 GiB":        {bounds.Limits{}, func(s *bounds.Space) error { return s.Entry(256*gib + 1) }, bounds.ErrTooBig},
		"more, of holes":           {bounds.Limits{}, holes(256*gib + 1), nil},
		"more than 4 TiB of holes": {bounds.Limits{}, holes(4096*gib + 1), bounds.ErrTooBig},
		"holes over a limit given": {bounds.Limits{MaxSize: 10}, holes(11), bounds.ErrTooBig},
		"what will fit":            {bounds.Limits{}, func(s *bounds.Space) error { return s.Expect(1) }, nil},
		"what no disk holds":       {bounds.Limits{}, func(s *bounds.Space) error { return s.Expect(1 << 60) }, bounds.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := bounds.New(fd, c.limits)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ask(s); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	s, err := bounds.New(fd, bounds.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for err == nil {
		err = s.Entry(0)
		names++
	}
	if names != bounds.MaxEntries+1 || !errors.Is(err, bounds.ErrTooBig) {
		t.Errorf("name number %d: %v", names, err)
	}
	if _, err := bounds.New(fd, bounds.Limits{Reserve: 1 << 60}); !errors.Is(err, bounds.ErrNoSpace) {
		t.Errorf("a reserve that is not free: %v", err)
	}
}

func holes(size int64) func(s *bounds.Space) error {
	return func(s *bounds.Space) error {
		s.HolesAreFree()
		return s.Entry(size)
	}
}

// The space of a small file system: a twentieth of it stays free, and what was written counts as room for
// what is expected.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	mounttest.Run(t, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m,nr_inodes=1500"); err != nil {
			t.Errorf("mounting a small file system: %v", err)
			return
		}
		fd, err := onefs.OpenRoot(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		s, err := bounds.New(fd, bounds.Limits{})
		if err != nil {
			t.Error(err)
			return
		}
		// 38 MiB are free, and a quarter of what is expected may take nothing.
		for n, want := range map[int64]error{38 << 20: nil, 50 << 20: nil, 52 << 20: bounds.ErrNoSpace} {
			if err := s.Expect(n); !errors.Is(err, want) {
				t.Errorf("expecting %s: %v, want %v", bounds.MiB(n), err, want)
			}
		}
		f, err := onefs.OpenAt(fd, "f", unix.O_RDWR|unix.O_CREAT, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(f)
		for _, c := range []struct {
			mib  int64
			want error
		}{{16, nil}, {37, nil}, {39, bounds.ErrNoSpace}} {
			if err := unix.Fallocate(f, 0, 0, c.mib<<20); err != nil {
				t.Error(err)
			}
			// Every 16 MiB written it is looked at.
			if err := s.Take(bounds.CheckEvery); !errors.Is(err, c.want) {
				t.Errorf("with %d MiB of 40 written: %v, want %v", c.mib, err, c.want)
			}
		}
		if err := unix.Ftruncate(f, 0); err != nil {
			t.Error(err)
		}
		for i := range 600 {
			if err := unix.Mknodat(fd, fmt.Sprint(i), unix.S_IFREG, 0); err != nil {
				t.Error(err)
				return
			}
		}
		if err := s.Check(); !errors.Is(err, bounds.ErrNoSpace) || !strings.Contains(err.Error(), "inodes are free") {
			t.Errorf("with 900 inodes left: %v", err)
		}
	})
}

func TestShares(t *testing.T) {
	a := open(t, t.TempDir())
	s, err := bounds.New(a, bounds.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Shares(open(t, t.TempDir())) || s.Shares(open(t, "/proc")) {
		t.Error("directories beside each other are of one file system, and /proc is of another")
	}
}

func TestShort(t *testing.T) {
	long := strings.Repeat("x", 101)
	for in, want := range map[string]string{"": "", "etc": "etc", long[:100]: long[:100], long: long[:100] + "..."} {
		if got := bounds.Short(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
