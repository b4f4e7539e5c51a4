package backupcmd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/cmd/internal/ui"
	"rubus/images/archive"
)

// Names in a directory of backups: rubus-TIME.tar is a full one, rubus-TIME-more.tar goes on
// from the one before.
const (
	namePrefix = "rubus-"
	nameSuffix = ".tar"
	nameTime   = "20060102T150405.000Z"
	tmpPrefix  = ".rubus-backup-"
)

func nameOf(h archive.Head) string {
	return namePrefix + h.Made.UTC().Format(nameTime) + nameSuffix
}

func moreName(h archive.Head) string {
	return namePrefix + h.Made.UTC().Format(nameTime) + "-more" + nameSuffix
}

// target is a directory of backups.
type target struct {
	dir   string
	lock  *os.File
	files []backupFile // the oldest first
	// damaged are files that are no whole backups, and why. They are left alone.
	damaged []damaged
}

type damaged struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

type backupFile struct {
	path string
	head archive.Head
}

// openTarget reads what a directory has, and sees to it that nobody else writes there.
func openTarget(dir string) (*target, error) {
	lock, err := os.Open(dir)
	if err != nil {
		return nil, ui.Hint(fmt.Errorf("backups are written to a directory that is there: %w", err), "is the disk mounted? make the directory on it once")
	}
	t := &target{dir: dir, lock: lock}
	// A file system without locks has one writer at a time by the timer alone.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		lock.Close()
		return nil, fmt.Errorf("another rubus writes a backup to %q", dir)
	}
	if err := t.read(); err != nil {
		lock.Close()
		return nil, err
	}
	return t, nil
}

func (t *target) close() { t.lock.Close() }

func (t *target) read() error {
	names, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		p := filepath.Join(t.dir, e.Name())
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			_ = os.Remove(p) // of a writer that was killed: we have the lock
			continue
		}
		if !strings.HasPrefix(e.Name(), namePrefix) || !strings.HasSuffix(e.Name(), nameSuffix) || !e.Type().IsRegular() {
			continue
		}
		h, err := headOf(p)
		if errors.Is(err, archive.ErrBroken) {
			t.damaged = append(t.damaged, damaged{p, err.Error()})
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		t.files = append(t.files, backupFile{p, h})
	}
	slices.SortStableFunc(t.files, func(a, b backupFile) int { return a.head.Made.Compare(b.head.Made) })
	return nil
}

func headOf(path string) (archive.Head, error) {
	f, err := openBackup(path)
	if err != nil {
		return archive.Head{}, err
	}
	defer f.Close()
	r, err := archive.NewLister(f.lister())
	if err != nil {
		return archive.Head{}, err
	}
	return r.Head, nil
}

// chain is what the newest backup goes on from, the full one first, and it itself;
// nothing when one of them is missing.
func (t *target) chain() []backupFile {
	if len(t.files) == 0 {
		return nil
	}
	return t.chainTo(t.files[len(t.files)-1])
}

func (t *target) chainTo(f backupFile) []backupFile {
	out := []backupFile{f}
	for out[0].head.Since != "" {
		i := slices.IndexFunc(t.files, func(b backupFile) bool { return b.head.ID == out[0].head.Since })
		if i < 0 || len(out) > len(t.files) {
			return nil
		}
		out = slices.Insert(out, 0, t.files[i])
	}
	return out
}

// backupIn is a backup that is read: a file, or a stream.
type backupIn struct {
	f *os.File
	z *zstd.Decoder
	r io.Reader
}

func openBackup(path string) (*backupIn, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := decompressed(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b.f = f
	return b, nil
}

// decompressed looks whether a stream is compressed.
func decompressed(r io.Reader) (*backupIn, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b := &backupIn{r: in}
	if string(magic) == "\x28\xb5\x2f\xfd" {
		if b.z, err = zstd.NewReader(in, zstd.WithDecoderMaxWindow(64<<20)); err != nil {
			return nil, err
		}
		b.r = b.z
	}
	return b, nil
}

// lister is what is read for lists alone: of a plain file the rest is passed over.
func (b *backupIn) lister() io.Reader {
	if b.z == nil && b.f != nil {
		if _, err := b.f.Seek(0, io.SeekStart); err == nil {
			return b.f
		}
	}
	return b.r
}

// Close gives up what is open.
func (b *backupIn) Close() {
	if b.z != nil {
		b.z.Close()
	}
	if b.f != nil {
		b.f.Close()
	}
}
