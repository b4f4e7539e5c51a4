package boot_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/backup"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/archive"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/images/layered"
	"rubus/images/sysdiff"
	"rubus/nfsexport"
)

// What scripts/bench state measures. Each benchmark runs once and tells figures of its
// own.

// benchFleet is a fleet with n boards whose image has dirs directories of 100 files.
func benchFleet(b *testing.B, n, dirs int) (*boot.Fleet, boot.Options, []device.Serial) {
	b.Helper()
	state := b.TempDir()
	store, err := images.Open(filepath.Join(state, "images"))
	if err != nil {
		b.Fatal(err)
	}
	for v := range 2 {
		root := filepath.Join(b.TempDir(), "root")
		for d := range dirs {
			dir := filepath.Join(root, "usr/share", fmt.Sprint(d))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			for f := range 100 {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), fmt.Appendf(nil, "%d %d", d, f), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
		for _, p := range []string{"boot/firmware/config.txt", "boot/firmware/bootcode.bin", "boot/firmware/start.elf", "boot/firmware/kernel8.img", "sbin/init", "etc/version"} {
			p = filepath.Join(root, p)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(p, fmt.Appendf(nil, "arm_64bit=1\n# %d\n", v), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if _, _, err := importer.Import(b.Context(), store, "lab", root, importer.Options{NoTag: v > 0}); err != nil {
			b.Fatal(err)
		}
	}
	want := &boot.Desired{Devices: map[device.Serial]*boot.Device{}, ByMAC: map[device.MAC]device.Serial{}, Unknown: boot.UnknownList}
	net := &link{owners: map[netip.Addr]device.MAC{}, off: map[netip.Addr]bool{}, silent: map[device.MAC]bool{}, asked: make(chan struct{}, 1)}
	var serials []device.Serial
	for i := range n {
		s, err := device.SerialFromUint32(0xb8000001 + uint32(i))
		if err != nil {
			b.Fatal(err)
		}
		serials = append(serials, s)
		want.Devices[s] = &boot.Device{Serial: s, Image: imageref.Ref{Name: "lab"}, Enabled: true}
		net.owners[addrOf(i)] = s.PiMAC()
	}
	opt := boot.Options{State: state, Store: store, Neighbours: net, Exporter: &exporter{now: map[nfsexport.ID]nfsexport.Export{}}}
	f := boot.New(opt)
	f.Apply(want)
	if err := f.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, s := range serials {
			_ = f.Stop(context.Background(), s)
		}
	})
	return f, opt, serials
}

func addrOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}) }

func prepareBoard(ctx context.Context, f *boot.Fleet, s device.Serial, i int) error {
	file, err := f.Open(ctx, boot.FileRequest{Path: s.String() + "/start.elf", Client: addrOf(i), Server: server})
	if err == nil {
		file.Close()
	}
	return err
}

// peak is the most memory, in bytes, that this process had while do ran.
func peak(b *testing.B, do func()) int64 {
	b.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak is what it has now
		b.Fatal(err)
	}
	do()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	var kib int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, err = fmt.Sscan(rest, &kib)
		}
	}
	if err != nil || kib == 0 {
		b.Fatalf("no peak in %s (%v)", text, err)
	}
	return kib << 10
}

// BenchmarkStatePrepare1000 has 1,000 new boards ask for their first file, 64 at a time.
func BenchmarkStatePrepare1000(b *testing.B) {
	const n = 1000
	f, opt, serials := benchFleet(b, n, 1)
	for b.Loop() {
		var took time.Duration
		most := peak(b, func() {
			start := time.Now()
			var g errgroup.Group
			g.SetLimit(64)
			for i, s := range serials {
				g.Go(func() error { return prepareBoard(b.Context(), f, s, i) })
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			took = time.Since(start)
		})
		b.ReportMetric(took.Seconds(), "s:1,000_boards_prepared")
		b.ReportMetric(float64(most)/(1<<20), "MiB:1,000_boards_prepared")
	}
	var bytes int64
	err := filepath.WalkDir(filepath.Join(opt.State, "devices"), func(p string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		bytes += st.Blocks * 512
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/n/1024, "KiB:an_idle_board")
}

// BenchmarkStateOf20000Files looks at, copies and moves an upper of 20,000 files, half
// of them golden ones that were written to, over an image of 40,000.
func BenchmarkStateOf20000Files(b *testing.B) {
	f, opt, serials := benchFleet(b, 1, 400)
	s := serials[0]
	if err := prepareBoard(b.Context(), f, s, 0); err != nil {
		b.Fatal(err)
	}
	st, _ := f.Board(s)
	if _, err := f.Mount(b.Context(), st.Path, netip.AddrPortFrom(addrOf(0), 700)); err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(opt.State, "roots", s.String(), "1")
	for d := range 100 {
		for file := range 100 {
			for _, p := range []string{fmt.Sprintf("usr/share/%d/%d", d, file), fmt.Sprintf("usr/share/%d/new%d", d, file)} {
				if err := os.WriteFile(filepath.Join(root, p), []byte("the board's"), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	timed := func(what string, do func() error) {
		b.Helper()
		var took time.Duration
		most := peak(b, func() {
			start := time.Now()
			if err := do(); err != nil {
				b.Fatal(err)
			}
			took = time.Since(start)
		})
		b.ReportMetric(took.Seconds(), "s:"+what)
		b.ReportMetric(float64(most)/(1<<20), "MiB:"+what)
	}
	for b.Loop() {
		timed("diff", func() error {
			places, err := writes.Places(opt.State, opt.Store, s)
			if err != nil {
				return err
			}
			was, err := layered.Open(places[0].Layers)
			if err != nil {
				return err
			}
			defer was.Close()
			now, err := layered.OpenUpper(places[0].Layers, places[0].UpperDir)
			if err != nil {
				return err
			}
			defer now.Close()
			r, err := sysdiff.Compare(b.Context(), was, now, nil)
			if err == nil && r.Totals.All() != 20000 {
				err = fmt.Errorf("%d changes", r.Totals.All())
			}
			return err
		})
		timed("snapshot", func() error {
			_, err := f.Snapshot(b.Context(), s, "", nil)
			return err
		})
		last := ""
		for _, what := range []string{"backup", "backup_of_what_changed"} {
			out, err := os.Create(filepath.Join(b.TempDir(), "backup.tar"))
			if err != nil {
				b.Fatal(err)
			}
			timed(what, func() error { return benchBackup(b, f, opt, out, last) })
			fi, err := out.Stat()
			if err := errors.Join(err, out.Close()); err != nil {
				b.Fatal(err)
			}
			last = out.Name()
			b.ReportMetric(float64(fi.Size())/1024, "KiB:"+what)
		}
		if err := f.Stop(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		timed("restore", func() error { return f.Restore(b.Context(), s, 1, nil) })
		timed("rebase", func() error {
			_, err := f.Rebase(b.Context(), s, boot.Order{To: imageref.Ref{Name: "lab", Version: 2}}, nil)
			return err
		})
		timed("reset", func() error { return f.Reset(b.Context(), s, boot.ResetOptions{}) })
	}
}

// benchBackup backs all up, or what changed since the backup before.
func benchBackup(b *testing.B, f *boot.Fleet, opt boot.Options, out *os.File, since string) (err error) {
	o := backup.Options{
		State: opt.State, Store: opt.Store.(*images.Store), Head: archive.Head{ID: archive.NewID(), Made: time.Now()}, Whole: true,
		Now:  func() time.Time { return time.Now().Add(time.Hour) },
		Hold: f.Hold,
	}
	if since != "" {
		f, err := os.Open(since)
		if err != nil {
			return err
		}
		defer f.Close()
		if o.Since, err = archive.NewLister(f); err != nil {
			return err
		}
	}
	_, err = backup.Write(b.Context(), out, o)
	return err
}
