package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/upper"
)

const (
	// maxList bounds a list as it is in the stream, maxLine a line of it, in bytes.
	maxList = 256 << 20
	maxLine = 32 << 10
	// maxWindow bounds the memory that a list's compression asks for.
	maxWindow = 8 << 20
)

// stamp tells whether an object is what it was: zero is never equal.
type stamp struct {
	ino       uint64
	sec, nsec int64
}

// stampOf gives no stamp to what changed at or after a time, in seconds: it may change
// again without showing it.
func stampOf(st *unix.Stat_t, settled int64) stamp {
	if st.Ctim.Sec >= settled {
		return stamp{}
	}
	return stamp{st.Ino, st.Ctim.Sec, st.Ctim.Nsec}
}

// List is what a backup has of one tree.
type List struct {
	// ID tells the tree from others that have the same name in other backups.
	ID     string
	stamps map[string]stamp
}

func (l List) has(id, p string, s stamp) bool {
	return l.ID == id && s != stamp{} && l.stamps[p] == s
}

// listHead is the first line.
type listHead struct {
	ID    string `json:"id"`
	Names int64  `json:"names"`
	// New counts the names with "+".
	New int64 `json:"new"`
}

func encodeList(id string, entries []entry) ([]byte, error) {
	h := listHead{ID: id, Names: int64(len(entries))}
	for i := range entries {
		if entries[i].object != nil {
			h.New++
		}
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(append(line, '\n'))
	for i := range entries {
		e := &entries[i]
		flag := byte('=')
		if e.object != nil {
			flag = '+'
		}
		line = append(line[:0], flag, ' ')
		line = append(strconv.AppendUint(line, e.stamp.ino, 10), ' ')
		line = append(strconv.AppendInt(line, e.stamp.sec, 10), ' ')
		line = append(strconv.AppendInt(line, e.stamp.nsec, 10), ' ')
		line = append(strconv.AppendQuoteToASCII(line, e.path), '\n')
		if err == nil {
			_, err = z.Write(line)
		}
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("making a list: %w", err)
	}
	return out.Bytes(), nil
}

// listReader reads a list line by line.
type listReader struct {
	head listHead
	z    *zstd.Decoder
	in   *bufio.Reader
	read int64
}

type listed struct {
	isNew bool
	stamp stamp
	path  string
}

func openList(r io.Reader) (*listReader, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	l := &listReader{z: z, in: bufio.NewReaderSize(z, maxLine)}
	line, err := l.line()
	if err == nil {
		err = json.Unmarshal(line, &l.head)
	}
	if err == nil && (l.head.Names < 0 || l.head.New < 0 || l.head.New > l.head.Names) {
		err = errors.New("it counts wrong")
	}
	if err != nil {
		z.Close()
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	return l, nil
}

func (l *listReader) close() { l.z.Close() }

func (l *listReader) line() ([]byte, error) {
	b, err := l.in.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b[:len(b)-1], nil
}

// next gives the next line, io.EOF after the last one.
func (l *listReader) next() (out listed, err error) {
	if l.read == l.head.Names {
		return out, io.EOF
	}
	l.read++
	b, err := l.line()
	if err != nil {
		return out, fmt.Errorf("reading a list: %w", err)
	}
	bad := fmt.Errorf("line %d of a list: %w", l.read+1, upper.ErrHostile)
	f := strings.SplitN(string(b), " ", 5)
	if len(f) != 5 || f[0] != "+" && f[0] != "=" {
		return out, bad
	}
	out.isNew = f[0] == "+"
	var errs [4]error
	out.stamp.ino, errs[0] = strconv.ParseUint(f[1], 10, 64)
	out.stamp.sec, errs[1] = strconv.ParseInt(f[2], 10, 64)
	out.stamp.nsec, errs[2] = strconv.ParseInt(f[3], 10, 64)
	out.path, errs[3] = strconv.Unquote(f[4])
	if errors.Join(errs[:]...) != nil {
		return out, bad
	}
	return out, upper.CheckPath(out.path)
}

// all reads the rest as what the next backup is compared with.
func (l *listReader) all() (List, error) {
	out := List{ID: l.head.ID, stamps: map[string]stamp{}}
	for {
		e, err := l.next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return List{}, err
		}
		out.stamps[e.path] = e.stamp
	}
}
