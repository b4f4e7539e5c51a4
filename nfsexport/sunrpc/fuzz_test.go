package sunrpc

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

// reassemble feeds a stream to a framer in reads of the given size.
func reassemble(stream []byte, read, limit int) (records [][]byte, err error) {
	p := &pool{largeSize: max(limit, mediumBuffer+1)}
	f := framer{pool: p, limit: limit, own: func(n int) (*buffer, error) {
		if n > limit && n > inPlace {
			return nil, errors.New("asked for more than the limit")
		}
		return p.get(n), nil
	}}
	if read%5 == 0 { // what is not here yet goes through a pipe
		f.pipes = &pipes{most: 1, each: 1}
		f.split = func(head []byte, n int) *pipe {
			if len(head) >= n {
				panic("nothing is still to come")
			}
			return f.pipes.get(new(peer))
		}
		defer f.pipes.close()
	}
	defer f.close()
	for {
		whole := f.peek()
		if whole != nil && read%3 == 0 {
			records = append(records, bytes.Clone(whole))
			f.skip(whole)
			continue
		}
		record, err := f.next()
		if err != nil {
			return records, err
		}
		if whole != nil && !bytes.Equal(whole, record.b) {
			return records, errors.New("the next record is another than was seen")
		}
		if record.b != nil {
			if record.data != nil {
				n := len(record.b)
				record.b = record.b[:n+record.data.n]
				if err := record.data.read(record.b[n:]); err != nil {
					return records, err
				}
				f.pipes.put(record.data)
			}
			records = append(records, bytes.Clone(record.b))
			p.put(record.owned)
			continue
		}
		if len(stream) == 0 {
			return records, nil
		}
		if f.data != nil {
			n, err := unix.Write(f.data.w, stream[:min(read, len(stream), f.left)])
			if err == unix.EAGAIN && f.data.full() {
				if err = f.unpipe(); err == nil {
					continue
				}
			}
			if err != nil {
				return records, err
			}
			f.data.n += n
			f.filled(n)
			stream = stream[n:]
			continue
		}
		n := copy(f.space(), stream[:min(read, len(stream))])
		if n == 0 {
			return records, errors.New("no space")
		}
		f.filled(n)
		stream = stream[n:]
		if read%2 == 1 { // the connection waits
			f.space()
			f.park()
		}
	}
}

func TestFramer(t *testing.T) {
	body := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7 >> 3)
		}
		return b
	}
	const limit = 1<<20 + 8<<10
	var stream []byte
	var want [][]byte
	var short, shortRecords int
	for _, n := range []int{0, 1, 40, smallBuffer, inPlace - 1, inPlace, inPlace + 1, mediumBuffer, mediumBuffer + 1, 1 << 20, limit, 5} {
		for _, fragment := range []int{n, 3, 4096, 70000} {
			if n > 1<<16 && fragment == 3 || fragment == 0 && n > 0 {
				continue
			}
			if n == 0 {
				stream = append(stream, framed(nil)...)
			} else {
				stream = append(stream, fragments(body(n), max(1, fragment))...)
			}
			want = append(want, body(n))
		}
		if n <= mediumBuffer+1 {
			short, shortRecords = len(stream), len(want)
		}
	}
	for _, read := range []int{1, 2, 7, 1000, 4095, 4096, 65535, 65536, 1 << 20} {
		stream, want := stream, want
		if read < 1000 { // what is read in tiny pieces need not be megabytes
			stream, want = stream[:short], want[:shortRecords]
		}
		got, err := reassemble(stream, read, limit)
		if err != nil || len(got) != len(want) {
			t.Fatalf("reads of %d: %d records of %d, %v", read, len(got), len(want), err)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("reads of %d: record %d of %d bytes differs", read, i, len(want[i]))
			}
		}
	}
	for name, tc := range map[string]struct {
		stream []byte
		want   error
	}{
		"too long at once":      {framed(body(limit + 1)), errRecordTooLong},
		"too long in fragments": {fragments(body(limit+1), 100000), errRecordTooLong},
		"empty fragment":        {[]byte{0, 0, 0, 1, 9, 0, 0, 0, 0}, errEmptyFragment},
	} {
		if _, err := reassemble(tc.stream, 65536, limit); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The last fragment may be empty.
	got, err := reassemble([]byte{0, 0, 0, 1, 9, 0x80, 0, 0, 0}, 9, limit)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0], []byte{9}) {
		t.Errorf("empty last fragment: %v, %v", got, err)
	}
}

// FuzzFramer: however a stream is cut into reads, the same records come out.
func FuzzFramer(f *testing.F) {
	f.Add(framed(message(1, procNull)), uint16(3))
	f.Add(fragments(message(1, procEcho, 1, 2, 3), 1), uint16(40))
	f.Add([]byte{0, 0, 0, 1, 9, 0x80, 0, 0, 0, 0x80, 0, 0, 0}, uint16(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0}, uint16(2))
	f.Add(bytes.Repeat(append([]byte{0x80, 0, 0x50, 0}, make([]byte, 0x5000)...), 2), uint16(100))
	f.Add(append([]byte{0x80, 0, 0x50, 0}, make([]byte, 0x5004)...), uint16(5000))
	f.Fuzz(func(t *testing.T, stream []byte, read uint16) {
		const limit = 100 << 10
		a, errA := reassemble(stream, max(1, int(read)), limit)
		b, errB := reassemble(stream, 1<<16, limit)
		if !errors.Is(errA, errB) || len(a) != len(b) {
			t.Fatalf("%d records %v, and %d records %v", len(a), errA, len(b), errB)
		}
		total := 0
		for i := range a {
			if !bytes.Equal(a[i], b[i]) || len(a[i]) > limit {
				t.Fatalf("record %d differs", i)
			}
			total += len(a[i]) + markSize
		}
		if total > len(stream) {
			t.Fatalf("%d bytes out of %d", total, len(stream))
		}
	})
}

// FuzzCall gives any bytes to the header, credential and dispatch.
func FuzzCall(f *testing.F) {
	f.Add(message(1, procEcho, 1))
	f.Add(messageTo(1, 100003, 3, 1))
	f.Add(authMessage(1, AuthSys, sysCred("board", 7, 8, 1, 2), 0, nil))
	f.Add(authMessage(1, AuthSys, sysCred("", 7, 8, make([]uint32, 17)...), 0, nil))
	f.Add(authMessage(1, 6, make([]byte, 20), 6, make([]byte, 20)))
	f.Add(authMessage(1, AuthSys, sysCred("", 7, 8), 0, nil)[:50])
	s := New(Config{Programs: []Program{newFake()}})
	f.Fuzz(func(t *testing.T, msg []byte) {
		var c Call
		v := parse(msg, &c)
		if v == notCall {
			return
		}
		if len(c.Groups()) > MaxGroups || c.Args.Len() > len(msg) {
			t.Fatalf("%d groups, %d bytes of arguments", len(c.Groups()), c.Args.Len())
		}
		var p *program
		st := Success
		if v == goodCall {
			p, st = s.find(&c)
		}
		var w xdr.Writer
		if v != goodCall || st != Success {
			s.refuse(&c, v, p, st, &w)
		} else if c.Procedure == procSlow || c.Procedure == procBig {
			return
		} else if !s.answer(t.Context(), p, &c, true, &w) {
			t.Fatal("no reply")
		}
		r := xdr.NewReader(w.Buf)
		if xid, kind := r.Uint32(), r.Uint32(); !bytes.Equal(msg[:4], w.Buf[:4]) || kind != msgReply {
			t.Fatalf("xid %x, kind %d", xid, kind)
		}
		if r.Uint32() == replyAccepted {
			if r.Uint64() != 0 || r.Uint32() > uint32(SystemErr) || !r.OK() {
				t.Fatalf("malformed reply %x", w.Buf)
			}
		} else if r.Uint64(); !r.OK() {
			t.Fatalf("malformed reply %x", w.Buf)
		}
	})
}

// FuzzCacheSlot reads any bytes as a slot of the cache.
func FuzzCacheSlot(f *testing.F) {
	f.Add(make([]byte, slotSize), uint32(1))
	f.Fuzz(func(t *testing.T, slot []byte, xid uint32) {
		cf, err := openCacheFile("", cacheWays)
		if err != nil {
			t.Fatal(err)
		}
		copy(cf.slot(0), slot)
		if k, _, ok := cf.key(0); ok {
			k.xid ^= xid
			_ = k.tag()
		}
		if reply, ok := cf.reply(0); ok && len(reply) > maxReply {
			t.Fatalf("reply of %d bytes", len(reply))
		}
	})
}
