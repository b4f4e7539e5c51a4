package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images/upper"
)

// Format is the number of the form that this package writes and reads.
const Format = 1

// Head is the first member of a backup.
type Head struct {
	Format int `json:"format"`
	// ID names the backup, Since the one that it goes on from; "": none.
	ID    string    `json:"id"`
	Since string    `json:"since,omitempty"`
	Made  time.Time `json:"made"`
	// Host and By say where it was made, and by which version of rubus.
	Host string `json:"host,omitempty"`
	By   string `json:"by,omitempty"`
}

const (
	headName = "rubus-backup.json"
	endName  = "rubus-backup-end.json"
	listEnd  = ".list"
	sameEnd  = ".same"
	// maxDocument bounds what is read of a document, in bytes.
	maxDocument = 64 << 20
)

type end struct {
	SHA256 string `json:"sha256"`
}

// NewID is a name for a backup that no other one has.
func NewID() string { return strings.ToLower(rand.Text()) }

// Writer writes one backup.
type Writer struct {
	out  *bufio.Writer
	sum  hash.Hash
	tar  *tar.Writer
	made time.Time
	size upper.Size
	// Progress, when set, is told what was written.
	Progress func(upper.Size)
}

// NewWriter begins a backup. Nothing is whole before Close.
func NewWriter(out io.Writer, h Head) (*Writer, error) {
	h.Format = Format
	w := &Writer{out: bufio.NewWriterSize(out, 1<<20), sum: sha256.New(), made: h.Made, Progress: func(upper.Size) {}}
	w.tar = tar.NewWriter(io.MultiWriter(w.out, w.sum))
	return w, w.Document(headName, h)
}

// Document writes a member of JSON.
func (w *Writer) Document(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %q: %w", name, err)
	}
	return w.Bytes(name, append(b, '\n'))
}

// Bytes writes a member that is small.
func (w *Writer) Bytes(name string, b []byte) error {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o600, ModTime: w.made.Truncate(time.Second), Format: tar.FormatUSTAR}
	err := w.tar.WriteHeader(&h)
	if err == nil {
		_, err = w.tar.Write(b)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", name, err)
	}
	return nil
}

// Same says that a tree is as it was in the backup before.
func (w *Writer) Same(name, id string) error { return w.Document(name+sameEnd, listHead{ID: id}) }

// Tree writes a tree. The error is that of the stream, or of a tree that was read where
// it lies: either way the stream is of no use.
func (w *Writer) Tree(ctx context.Context, name string, k *Taken) error {
	list, err := encodeList(k.id, k.entries)
	if err != nil {
		return err
	}
	if err := w.Bytes(name+listEnd, list); err != nil {
		return err
	}
	for i := range k.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &k.entries[i]
		if e.object == nil {
			continue
		}
		if err := w.entry(name, k, e); err != nil {
			return fmt.Errorf("writing %q: %w", name+"/"+e.path, err)
		}
		w.size.Files++
		w.Progress(w.size)
	}
	return nil
}

func (w *Writer) entry(name string, k *Taken, e *entry) error {
	o := e.object
	h := tar.Header{
		Name: name + "/" + o.Path, Mode: int64(o.Stat.Mode & 0o7777), Uid: int(o.Stat.Uid), Gid: int(o.Stat.Gid),
		ModTime: time.Unix(o.Stat.Mtim.Unix()), AccessTime: time.Unix(o.Stat.Atim.Unix()), PAXRecords: map[string]string{}, Format: tar.FormatPAX,
	}
	if o.Link != "" {
		h.Typeflag, h.Linkname, h.AccessTime = tar.TypeLink, name+"/"+o.Link, time.Time{}
		return w.tar.WriteHeader(&h)
	}
	switch o.Stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
		sparse(&h, o.Stat.Size, e.data)
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, o.Target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if o.Stat.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(o.Stat.Rdev)), int64(unix.Minor(o.Stat.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFSOCK:
		h.Typeflag = tar.TypeReg
		h.PAXRecords[keyType] = "socket"
	}
	for n, v := range o.Xattrs {
		h.PAXRecords[xattrKey(n)] = v
	}
	if err := w.tar.WriteHeader(&h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	in, err := k.open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{w.tar}, struct{ io.Reader }{in}, make([]byte, min(h.Size, 256<<10)))
	w.size.Bytes += n
	if err == nil && n != h.Size {
		err = errors.New("it became shorter while it was read")
	}
	return err
}

// The PAX records of our own.
const (
	keyOpaque   = "RUBUS.opaque"
	keyRedirect = "RUBUS.redirect"
	keyProtAttr = "RUBUS.protattr"
	keyType     = "RUBUS.type"
	keySize     = "RUBUS.size"
	keyData     = "RUBUS.data"
	keyHex      = "RUBUS.xattr."
	keyXattr    = "SCHILY.xattr."
)

const attrs = "trusted.overlay."

func xattrKey(name string) string {
	switch name {
	case attrs + "opaque":
		return keyOpaque
	case attrs + "redirect":
		return keyRedirect
	case attrs + "protattr":
		return keyProtAttr
	}
	if strings.Contains(name, "=") {
		return keyHex + hex.EncodeToString([]byte(name))
	}
	return keyXattr + name
}

// xattrName is what xattrKey was given; ok is false for other records.
func xattrName(key string) (name string, ok bool) {
	switch key {
	case keyOpaque:
		return attrs + "opaque", true
	case keyRedirect:
		return attrs + "redirect", true
	case keyProtAttr:
		return attrs + "protattr", true
	}
	if h, ok := strings.CutPrefix(key, keyHex); ok {
		b, err := hex.DecodeString(h)
		return string(b), err == nil
	}
	name, ok = strings.CutPrefix(key, keyXattr)
	// Overlayfs' own have records of their own, above.
	return name, ok && !strings.HasPrefix(name, attrs)
}

// sparse says in the header how the data of a file lies.
func sparse(h *tar.Header, size int64, data []upper.Segment) {
	h.Size = 0
	for _, s := range data {
		h.Size += s.Len
	}
	if h.Size == size {
		return
	}
	var b []byte
	for i, s := range data {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(strconv.AppendInt(b, s.Off, 10), '+'), s.Len, 10)
	}
	h.PAXRecords[keySize] = strconv.FormatInt(size, 10)
	if len(b) > 0 {
		h.PAXRecords[keyData] = string(b)
	}
}

// Close ends the backup with the mark that it is whole.
func (w *Writer) Close() error {
	if err := w.tar.Flush(); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	if err := w.Document(endName, end{hex.EncodeToString(w.sum.Sum(nil))}); err != nil {
		return err
	}
	if err := errors.Join(w.tar.Close(), w.out.Flush()); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	return nil
}

// Size is what was written of trees.
func (w *Writer) Size() upper.Size { return w.size }
