package nfsload

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long no answer may come while calls are in flight.
const patience = time.Minute

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// driver keeps calls in flight on connections, all from the goroutine that runs it. The
// connections take turns: each receives once, and sends what follows from that.
type driver struct {
	conns  []*Conn
	window int // calls in flight on each at most
	look   int // how much of an answer is looked at
	// next gives the next call of a connection, and the moment from which its time
	// counts; nil: there is none now.
	next func(conn int, now time.Duration) (Call, time.Duration)
	// soon says when next has a call again that it has not now; nil: only after an
	// answer, if at all.
	soon func() time.Duration
	// done is given each answer and how long it took.
	done func(conn int, r *Reply, took time.Duration) error

	begin time.Time
}

// run ends when all that was sent is answered, and nothing more is to be sent.
func (d *driver) run() error {
	d.begin = time.Now()
	polls := make([]unix.PollFd, len(d.conns))
	for i, c := range d.conns {
		c.begin(d.window)
		polls[i].Fd = int32(c.fd)
	}
	heard := time.Duration(0)
	for {
		now, flying := d.now(), 0
		for i, c := range d.conns {
			if err := d.fill(i, now); err != nil {
				return err
			}
			flying += c.flying()
			polls[i].Events = unix.POLLIN
			if len(c.out) > 0 {
				polls[i].Events |= unix.POLLOUT
			}
		}
		wait := never
		if d.soon != nil {
			wait = d.soon()
		}
		if flying == 0 && wait == never {
			return nil
		}
		if flying == 0 {
			heard = now
		}
		n, err := poll(polls, max(0, min(wait, heard+patience)-d.now()))
		switch {
		case err != nil:
			return err
		case n > 0:
			heard = now
		case now-heard > patience:
			return errors.New("no answer for a minute")
		}
		for i := range polls {
			if polls[i].Revents&^unix.POLLOUT == 0 {
				continue
			}
			if err := d.receive(i); err != nil {
				return err
			}
		}
	}
}

func (d *driver) now() time.Duration { return time.Since(d.begin) }

// fill sends what there is room for.
func (d *driver) fill(i int, now time.Duration) error {
	c := d.conns[i]
	for len(c.free) > 0 {
		call, start := d.next(i, now)
		if call == nil {
			break
		}
		c.put(call, start)
	}
	return c.send()
}

// receive takes what came on a connection, and sends what there is room for then.
func (d *driver) receive(i int) error {
	c := d.conns[i]
	err := c.receive(d.look)
	for err == nil {
		now := d.now()
		var r Reply
		var ok, rest bool
		if r, ok, rest, err = c.take(d.look); err != nil || !ok && !rest {
			break
		}
		if rest { // more of it is probably here
			err = c.receive(d.look)
			continue
		}
		start, mine := c.answered(r.xid)
		if !mine {
			return errors.New("an answer to no call")
		}
		err = d.done(i, &r, now-start)
	}
	if err != nil {
		return err
	}
	return d.fill(i, d.now())
}

// poll waits for so long at most.
func poll(polls []unix.PollFd, wait time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(wait))
	n, err := unix.Ppoll(polls, &ts, nil)
	if err == unix.EINTR {
		for i := range polls {
			polls[i].Revents = 0
		}
		return 0, nil
	}
	return n, err
}
