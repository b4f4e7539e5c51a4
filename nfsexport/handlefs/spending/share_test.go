package spending

import (
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
)

// object is what a file system has of one object.
type object struct {
	st    unix.Stat_t
	upper bool
}

// count has the export's files counted on disk, where there is this besides the object.
func (o *object) count(q *nfsexport.Quota) {
	had := nfsexport.Space{}
	if o.upper && o.st.Nlink > 0 {
		had = nfsexport.Space{Bytes: Bytes(&o.st), Files: 1}
	}
	q.Counted(q.Mark(), had)
}

func (o *object) learn(q *nfsexport.Quota, s *Share) {
	if s.Unknown(q) {
		s.Learn(q, &o.st, o.upper)
	}
}

// write makes it so many blocks, copied up before if it is golden.
func (o *object) write(blocks int64) {
	n := o.st.Nlink
	o.st, o.upper = file(blocks*Block, blocks), true
	o.st.Nlink = n
}

// TestShare: whatever happens to an object in whatever order, what is counted for it is
// what it takes.
func TestShare(t *testing.T) {
	golden := object{st: file(3*Block, 3)}
	golden.st.Nlink = 1
	own := object{st: file(2*Block, 2), upper: true}
	own.st.Nlink = 1
	for name, c := range map[string]struct {
		o    object
		do   func(q *nfsexport.Quota, s *Share, o *object)
		want nfsexport.Space
	}{
		"golden, and looked at": {golden, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			o.count(q)
			o.learn(q, s)
		}, nfsexport.Space{}},
		"golden, and written to": {golden, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			o.write(4)
			s.Count(q, &o.st)
		}, nfsexport.Space{Bytes: 4 * Block, Files: 1}},
		"golden, and written to twice": {golden, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			o.write(4)
			s.Count(q, &o.st)
			o.learn(q, s)
			o.write(1)
			s.Count(q, &o.st)
		}, nfsexport.Space{Bytes: Block, Files: 1}},
		"golden, and removed": {golden, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			o.st.Nlink = 0
			s.Removed(q)
		}, nfsexport.Space{}},
		"made": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
		}, nfsexport.Space{Bytes: 2 * Block, Files: 1}},
		"made, and seen by another call first": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			s.Made(q, &o.st)
		}, nfsexport.Space{Bytes: 2 * Block, Files: 1}},
		"made, and written to by another call first": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			before := o.st
			o.write(5)
			s.Count(q, &o.st)
			s.Made(q, &before) // what it saw when it made it
		}, nfsexport.Space{Bytes: 5 * Block, Files: 1}},
		"made, written to, cut off": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			o.write(9)
			s.Count(q, &o.st)
			o.write(0)
			s.Count(q, &o.st)
		}, nfsexport.Space{Files: 1}},
		"made and removed": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			s.Removed(q)
		}, nfsexport.Space{}},
		"written to after it was removed": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			s.Removed(q)
			o.st.Nlink = 0
			o.learn(q, s)
			o.write(9)
			s.Count(q, &o.st)
		}, nfsexport.Space{}},
		"made, grown on the host, written to": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			o.write(5)
			o.learn(q, s)
			o.write(7)
			s.Count(q, &o.st)
		}, nfsexport.Space{Bytes: 7 * Block, Files: 1}},
		"removed, counted on disk, written to by who has it open": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			s.Removed(q)
			o.st.Nlink = 0
			o.count(q)
			o.learn(q, s)
			o.write(9)
			s.Count(q, &o.st)
		}, nfsexport.Space{}},
		"counted on disk, and looked at by another call while it is removed": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			o.learn(q, s)
			o.count(q)
			o.st.Nlink = 0
			o.learn(q, s)
			s.Removed(q)
		}, nfsexport.Space{}},
		"removed twice": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			s.Removed(q)
			s.Removed(q)
		}, nfsexport.Space{}},
		"counted on disk, then written to": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			o.count(q)
			o.learn(q, s)
			o.write(7)
			s.Count(q, &o.st)
		}, nfsexport.Space{Bytes: 7 * Block, Files: 1}},
		"written to, counted on disk, written to": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			o.write(7)
			s.Count(q, &o.st)
			o.count(q)
			o.learn(q, s)
			o.write(3)
			s.Count(q, &o.st)
		}, nfsexport.Space{Bytes: 3 * Block, Files: 1}},
		"written to on the host, counted on disk, removed": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			s.Made(q, &o.st)
			o.write(50)
			o.count(q)
			o.learn(q, s)
			s.Removed(q)
		}, nfsexport.Space{}},
		"removed before anything was known": {own, func(q *nfsexport.Quota, s *Share, o *object) {
			o.count(q) // it was there
			o.st.Nlink = 0
			o.count(q) // and is no more
			o.learn(q, s)
			o.write(9)
			s.Count(q, &o.st)
			s.Removed(q)
		}, nfsexport.Space{}},
	} {
		t.Run(name, func(t *testing.T) {
			var q nfsexport.Quota
			q.Limit(nfsexport.Space{Bytes: 1 << 30, Files: 1 << 20})
			var s Share
			o := c.o
			c.do(&q, &s, &o)
			if got := q.Used(); got != c.want {
				t.Errorf("%+v is counted, want %+v", got, c.want)
			}
		})
	}
}

// TestGolden: for what a change takes the room of all it has.
func TestGolden(t *testing.T) {
	var q nfsexport.Quota
	st := file(3*Block, 3)
	st.Nlink = 1
	for name, c := range map[string]struct {
		do            func(s *Share)
		golden, upper bool
	}{
		"nothing is known":            {func(*Share) {}, true, false},
		"in a layer":                  {func(s *Share) { s.Learn(&q, &st, false) }, true, false},
		"in the upper":                {func(s *Share) { s.Learn(&q, &st, true) }, false, true},
		"copied up":                   {func(s *Share) { s.Learn(&q, &st, false); s.Count(&q, &st) }, false, true},
		"copied up, and looked at":    {func(s *Share) { s.Count(&q, &st); s.Learn(&q, &st, false) }, false, true},
		"removed":                     {func(s *Share) { s.Learn(&q, &st, false); s.Removed(&q) }, false, false},
		"removed before it was known": {func(s *Share) { s.Learn(&q, &unix.Stat_t{Mode: unix.S_IFREG}, true) }, false, false},
	} {
		var s Share
		if c.do(&s); s.Golden() != c.golden || s.Upper() != c.upper {
			t.Errorf("%s: golden %v, upper %v", name, s.Golden(), s.Upper())
		}
	}
}
