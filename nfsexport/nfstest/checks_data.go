package nfstest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

var dataChecks = []check{
	{"write and read back", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		rnd := rand.New(rand.NewPCG(1, 2))
		model := make([]byte, 1<<20)
		size := 0
		for range 200 {
			off, n := rnd.IntN(len(model)-40000), 1+rnd.IntN(40000)
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			copy(model[off:], p)
			size = max(size, off+n)
			e.write(f, int64(off), string(p))
			roff := rnd.IntN(size)
			q := make([]byte, 1+rnd.IntN(60000))
			n, err := f.ReadAt(q, int64(roff))
			e.must(err)
			if want := model[roff:min(size, roff+len(q))]; !bytes.Equal(q[:n], want) {
				e.Fatalf("read of %d at %d: %d bytes that differ", len(q), roff, n)
			}
		}
		e.must(f.Sync())
		if st, err := f.Stat(); err != nil || st.Size != int64(size) {
			e.Errorf("size %d, want %d, %v", st.Size, size, err)
		}
	}},
	{"end of file", func(e *env) {
		p := e.file("f", 0o644, "12345")
		f, err := e.Open(p, unix.O_RDWR, 0)
		e.must(err)
		defer f.Close()
		buf := make([]byte, 100)
		for off, want := range map[int64]int{0: 5, 4: 1, 5: 0, 6: 0, 1 << 40: 0, math.MaxInt64 - 200: 0} {
			if n, err := f.ReadAt(buf, off); err != nil || n != want {
				e.Errorf("read at %d: %d bytes, %v", off, n, err)
			}
		}
	}},
	{"sparse", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		e.write(f, 10<<20, "end")
		e.must(f.Sync())
		st, err := f.Stat()
		e.must(err)
		if st.Size != 10<<20+3 || st.Blocks*512 > 1<<20 {
			e.Errorf("size %d with %d blocks", st.Size, st.Blocks)
		}
		buf := make([]byte, 4096)
		n, err := f.ReadAt(buf, 5<<20)
		e.must(err)
		if n != len(buf) || !bytes.Equal(buf, make([]byte, 4096)) {
			e.Error("a hole does not read as zeros")
		}
	}},
	{"over 4 GiB", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		// Every write lies across a power of two.
		data := make([]byte, 50000)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		const last = 42 // 4 TiB: ext4 ends at 16
		for bit := 31; bit <= last; bit++ {
			copy(data, fmt.Sprintf("bit %d", bit))
			e.write(f, 1<<bit-int64(len(data)/2), string(data))
		}
		e.must(f.Sync())
		for bit := 31; bit <= last; bit++ {
			copy(data, fmt.Sprintf("bit %d", bit))
			got := make([]byte, len(data)+200)
			n, err := f.ReadAt(got, 1<<bit-int64(len(data)/2)-100)
			e.must(err)
			got = got[100:n]
			if !bytes.Equal(got[:min(len(got), len(data))], data) {
				e.Errorf("across 1<<%d: %d bytes, other data", bit, n)
			}
		}
		if st := e.stat(e.p("f")); st.Size != 1<<last+int64(len(data)/2) || st.Blocks*512 > 4<<20 {
			e.Errorf("size %d, %d blocks", st.Size, st.Blocks)
		}
		e.must(e.Truncate(e.p("f"), 1<<32+1))
		buf := make([]byte, 4)
		if n, err := f.ReadAt(buf, 1<<32-1); err != nil || n != 2 || !bytes.Equal(buf[:2], data[len(data)/2-1:][:2]) {
			e.Errorf("cut off at 4 GiB: %d bytes %x, %v", n, buf, err)
		}
	}},
	{"truncate and extend", func(e *env) {
		p := e.file("f", 0o644, "0123456789")
		e.must(e.Truncate(p, 4))
		e.content(p, "0123")
		e.must(e.Truncate(p, 8))
		e.content(p, "0123\x00\x00\x00\x00")
		e.must(e.Truncate(p, 0))
		e.content(p, "")
		e.must(e.Truncate(p, 1<<33))
		if st := e.stat(p); st.Size != 1<<33 || st.Blocks*512 > 1<<20 {
			e.Errorf("extended: size %d, %d blocks", st.Size, st.Blocks)
		}
	}},
	{"truncate others", func(e *env) {
		for _, k := range kinds {
			if k.typ == unix.S_IFDIR || k.typ == unix.S_IFIFO && !e.Kernel() {
				e.must(k.make(e, e.p(k.name)))
				e.fails(e.Truncate(e.p(k.name), 0), unix.EISDIR, unix.EINVAL)
			}
		}
	}},
	{"unlinked while open", func(e *env) {
		if !e.Kernel() {
			return // NFS has no open: it is the client's kernel that keeps the file
		}
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		e.write(f, 0, "alive")
		e.must(e.Unlink(e.p("f")))
		e.write(f, 5, "!")
		e.must(f.Sync())
		buf := make([]byte, 10)
		n, err := f.ReadAt(buf, 0)
		e.must(err)
		if string(buf[:n]) != "alive!" {
			e.Errorf("read %q", buf[:n])
		}
		e.must(f.Close())
		e.left(e.dir)
	}},
	{"two descriptors", func(e *env) {
		p := e.file("f", 0o644, "aaaa")
		f, err := e.Open(p, unix.O_RDWR, 0)
		e.must(err)
		defer f.Close()
		g, err := e.Open(p, unix.O_RDONLY, 0)
		e.must(err)
		defer g.Close()
		e.write(f, 1, "bb")
		buf := make([]byte, 4)
		if _, err := g.ReadAt(buf, 0); err != nil || string(buf) != "abba" {
			e.Errorf("the reader sees %q, %v", buf, err)
		}
	}},
	{"too far", func(e *env) {
		f, err := e.Open(e.p("f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		e.must(err)
		defer f.Close()
		_, err = f.WriteAt([]byte("x"), math.MaxInt64)
		if err == nil {
			err = f.Sync()
		}
		e.fails(err, unix.EFBIG, unix.EINVAL)
		e.fails(e.Truncate(e.p("f"), math.MaxInt64), unix.EFBIG, unix.EINVAL, 0) // xfs and tmpfs can
	}},
}
