package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/upper"
)

// ErrBroken says that a stream is no backup, or not a whole one.
var ErrBroken = errors.New("the backup is broken")

// Reader reads one backup. What it says is not trusted before Next has said io.EOF.
type Reader struct {
	// Head is the first member.
	Head Head
	// Room, when set, says whether there is room for a file's bytes where it is to be made.
	Room func(bytes int64) error
	tar  *tar.Reader
	sum  *lagging // nil: the sum is not checked
	// list is the tree at hand, whose members come next; skip is how many are left of it.
	list []byte
	name string
	skip int64
}

// Member is a document or a tree.
type Member struct {
	Name string
	// IsTree says that it is a tree, ID which one.
	IsTree bool
	ID     string
	// Same says that the tree is as it was in the backup before.
	Same bool
	// Document is what the document holds.
	Document []byte
}

// lagging sums what was read, but for the last block.
type lagging struct {
	in   io.Reader
	sum  hash.Hash
	last []byte
}

const block = 512

func (l *lagging) Read(b []byte) (int, error) {
	n, err := l.in.Read(b)
	l.last = append(l.last, b[:n]...)
	if more := len(l.last) - block; more > 0 {
		l.sum.Write(l.last[:more])
		l.last = append(l.last[:0], l.last[more:]...)
	}
	return n, err
}

// NewReader begins to read a backup whose sum is checked at its end.
func NewReader(in io.Reader) (*Reader, error) {
	sum := &lagging{in: in, sum: sha256.New()}
	return newReader(&Reader{tar: tar.NewReader(sum), sum: sum})
}

// NewLister begins to read a backup for its lists alone: of a file that can be sought in
// little else is read. Nothing is summed.
func NewLister(in io.Reader) (*Reader, error) { return newReader(&Reader{tar: tar.NewReader(in)}) }

func newReader(r *Reader) (*Reader, error) {
	h, err := r.tar.Next()
	if err != nil || h.Name != headName {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBroken)
	}
	b, err := r.document(h, 1<<20)
	if err == nil {
		err = json.Unmarshal(b, &r.Head)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: its head: %w", ErrBroken, err)
	case r.Head.Format != Format:
		return nil, fmt.Errorf("the backup is of format %d; this rubus knows %d: use the rubus that made it (%s), or a newer one", r.Head.Format, Format, r.Head.By)
	case r.Head.ID == "" || r.Head.ID == r.Head.Since:
		return nil, fmt.Errorf("%w: it has no id", ErrBroken)
	}
	return r, nil
}

func (r *Reader) document(h *tar.Header, limit int64) ([]byte, error) {
	if h.Typeflag != tar.TypeReg || h.Size > limit {
		return nil, fmt.Errorf("member %.200q is no file of at most %d bytes: %w", h.Name, limit, upper.ErrHostile)
	}
	b, err := io.ReadAll(io.LimitReader(r.tar, h.Size))
	if err == nil && int64(len(b)) != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, broken(err)
	}
	return b, nil
}

// broken explains an error of the stream.
func broken(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends in the middle", ErrBroken)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return err
}

func (r *Reader) header() (*tar.Header, error) {
	h, err := r.tar.Next()
	// What the package calls insecure is checked as the names are used.
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, broken(err)
	}
	return h, nil
}

// Next gives the next member; a tree that was not read is passed over. io.EOF is the end of a
// backup that is whole; anything else it ends with wraps ErrBroken.
func (r *Reader) Next() (Member, error) {
	for ; r.skip > 0; r.skip-- {
		if _, err := r.header(); err != nil {
			return Member{}, err
		}
	}
	r.list = nil
	h, err := r.header()
	if err != nil {
		return Member{}, err
	}
	if h.Name == endName {
		return Member{}, r.end(h)
	}
	name, isTree := strings.CutSuffix(h.Name, listEnd)
	if !isTree {
		b, err := r.document(h, maxDocument)
		if err != nil {
			return Member{}, err
		}
		name, same := strings.CutSuffix(h.Name, sameEnd)
		m := Member{Name: name, Document: b}
		if same {
			var l listHead
			if err := json.Unmarshal(b, &l); err != nil {
				return Member{}, fmt.Errorf("member %q: %w: %w", h.Name, ErrBroken, err)
			}
			m = Member{Name: name, IsTree: true, ID: l.ID, Same: true}
		}
		return m, upper.CheckPath(name)
	}
	if err := upper.CheckPath(name); err != nil {
		return Member{}, err
	}
	if r.list, err = r.document(h, maxList); err != nil {
		return Member{}, err
	}
	l, err := openList(bytes.NewReader(r.list))
	if err != nil {
		return Member{}, err
	}
	defer l.close()
	r.name, r.skip = name, l.head.New
	return Member{Name: name, IsTree: true, ID: l.head.ID}, nil
}

func (r *Reader) end(h *tar.Header) error {
	sum := ""
	if r.sum != nil {
		sum = hex.EncodeToString(r.sum.sum.Sum(nil))
	}
	b, err := r.document(h, 1<<20)
	if err != nil {
		return err
	}
	var e end
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("%w: its end: %w", ErrBroken, err)
	}
	if r.sum != nil && e.SHA256 != sum {
		return fmt.Errorf("%w: its sum is not the one that it was written with", ErrBroken)
	}
	return io.EOF
}

// List is what the tree at hand has, for a backup that goes on from this one.
func (r *Reader) List() (List, error) {
	l, err := openList(bytes.NewReader(r.list))
	if err != nil {
		return List{}, err
	}
	defer l.close()
	return l.all()
}

// Extract makes the tree at hand in the empty directory to. before is where the tree
// of the backup before lies; "": nowhere. What is as it was is moved from there. It blocks
// until all is on the disk.
func (r *Reader) Extract(ctx context.Context, to, before string, progress func(upper.Size)) (upper.Size, error) {
	size, err := r.extract(ctx, to, before, progress)
	if err != nil {
		return size, fmt.Errorf("reading %q: %w", r.name, err)
	}
	return size, nil
}

func (r *Reader) extract(ctx context.Context, to, before string, progress func(upper.Size)) (upper.Size, error) {
	l, err := openList(bytes.NewReader(r.list))
	if err != nil {
		return upper.Size{}, err
	}
	defer l.close()
	m, err := upper.NewMaker(to)
	if err != nil {
		return upper.Size{}, err
	}
	defer m.Close()
	from := -1
	if before != "" {
		if from, err = onefs.OpenRoot(before); err != nil {
			return upper.Size{}, err
		}
		defer unix.Close(from)
	}
	for {
		if err := ctx.Err(); err != nil {
			return m.Size(), err
		}
		e, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
		case e.isNew:
			err = r.object(m, e.path)
		case from < 0:
			err = fmt.Errorf("%w: it goes on from a backup that has not this tree", ErrBroken)
		default:
			err = m.Take(from, e.path)
		}
		if err != nil {
			return m.Size(), err
		}
		if progress != nil {
			progress(m.Size())
		}
	}
	if r.skip != 0 {
		return m.Size(), fmt.Errorf("%w: %d names of a list are not there", ErrBroken, r.skip)
	}
	return m.Size(), m.Finish()
}

// object makes what the next member says, which is to have a path.
func (r *Reader) object(m *upper.Maker, p string) error {
	if r.skip--; r.skip < 0 {
		return fmt.Errorf("%w: a list has more names than it counts", ErrBroken)
	}
	h, err := r.header()
	if err != nil {
		return err
	}
	if strings.TrimSuffix(h.Name, "/") != strings.TrimSuffix(r.name+"/"+p, "/") {
		return fmt.Errorf("member %.200q is not where the list has %.200q: %w", h.Name, p, upper.ErrHostile)
	}
	if h.Typeflag == tar.TypeLink {
		first, ok := strings.CutPrefix(h.Linkname, r.name+"/")
		if !ok {
			return fmt.Errorf("%q is another name of %.200q: %w", p, h.Linkname, upper.ErrHostile)
		}
		return m.Link(p, first)
	}
	st, x, err := attributes(h)
	if err != nil {
		return fmt.Errorf("member %.200q: %w", h.Name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return m.Dir(p, &st, x)
	case unix.S_IFREG:
		data, err := segments(h, &st)
		if err != nil {
			return fmt.Errorf("member %.200q: %w", h.Name, err)
		}
		if r.Room != nil && h.Size > 0 {
			if err := r.Room(h.Size); err != nil {
				return err
			}
		}
		if err := m.File(p, &st, x, data, r.tar); err != nil {
			return broken(err)
		}
		return nil
	}
	return m.Special(p, &st, x, h.Linkname)
}

// attributes reads the header of an object.
func attributes(h *tar.Header) (st unix.Stat_t, x map[string]string, err error) {
	kind := map[byte]uint32{
		tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK,
		tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
	}[h.Typeflag]
	if h.PAXRecords[keyType] == "socket" && h.Typeflag == tar.TypeReg {
		kind = unix.S_IFSOCK
	}
	switch {
	case h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.map"] != "" || h.PAXRecords["GNU.sparse.size"] != "":
		// The tar package would make zeros of holes without end.
		return st, nil, fmt.Errorf("holes as GNU tar has them: %w", upper.ErrHostile)
	case kind == 0:
		return st, nil, fmt.Errorf("it is of type %q: %w", string(rune(h.Typeflag)), upper.ErrHostile)
	// The highest number means "leave it" to chown(2).
	case h.Uid < 0 || int64(h.Uid) >= math.MaxUint32 || h.Gid < 0 || int64(h.Gid) >= math.MaxUint32:
		return st, nil, fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, upper.ErrHostile)
	case h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20:
		return st, nil, fmt.Errorf("device %d:%d: %w", h.Devmajor, h.Devminor, upper.ErrHostile)
	case kind == unix.S_IFLNK && (h.Linkname == "" || len(h.Linkname) >= unix.PathMax || strings.IndexByte(h.Linkname, 0) >= 0):
		return st, nil, fmt.Errorf("a symbolic link to %.100q: %w", h.Linkname, upper.ErrHostile)
	}
	st.Mode, st.Uid, st.Gid, st.Size = kind|uint32(h.Mode&0o7777), uint32(h.Uid), uint32(h.Gid), h.Size
	st.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	at := h.AccessTime
	if at.IsZero() {
		at = h.ModTime
	}
	st.Mtim = unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
	st.Atim = unix.Timespec{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}
	for key, value := range h.PAXRecords {
		if name, ok := xattrName(key); ok {
			if x == nil {
				x = map[string]string{}
			}
			x[name] = value
		}
	}
	return st, x, nil
}

// segments is what sparse wrote, and puts the size into st.
func segments(h *tar.Header, st *unix.Stat_t) (out []upper.Segment, err error) {
	text, ok := h.PAXRecords[keySize]
	if !ok {
		return []upper.Segment{{Off: 0, Len: h.Size}}, nil
	}
	bad := fmt.Errorf("how its data lies: %w", upper.ErrHostile)
	if st.Size, err = strconv.ParseInt(text, 10, 64); err != nil || st.Size < 0 {
		return nil, bad
	}
	sum := int64(0)
	if data := h.PAXRecords[keyData]; data != "" {
		for part := range strings.SplitSeq(data, ",") {
			off, length, _ := strings.Cut(part, "+")
			o, err1 := strconv.ParseInt(off, 10, 64)
			n, err2 := strconv.ParseInt(length, 10, 64)
			if err1 != nil || err2 != nil || o < 0 || n < 0 || n > st.Size || sum > math.MaxInt64-n {
				return nil, bad
			}
			sum += n
			out = append(out, upper.Segment{Off: o, Len: n})
		}
	}
	if sum != h.Size {
		return nil, bad
	}
	return out, nil
}
