package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
)

// listing gives the listing of the call's directory. A listing that goes on takes the last,
// if nothing changed; one that begins only if nobody could have changed anything
// unseen. The directory is locked for reading.
func (o *op) listing(cookie uint64) (*listing.Listing, unix.Errno) {
	st := &o.lister.st
	if e := o.attributes(o.obj, st); e != 0 {
		return nil, e
	}
	now := listing.Moment{Changes: o.obj.changes.Load(), At: stamp.Of(st)}
	if l := o.obj.listed.Last(); l != nil && (cookie != 0 || l.Settled()) && l.Fits(now, cookie) {
		return l, 0
	}
	l := listing.New(now, now.At.Settled(o.fs.stampTime()))
	if o.takeGolden(l) {
		return l, 0
	}
	o.altersFile(o.obj) // it may move the time of the last access
	defer o.altered()
	dot := rawfs.Name{'.'}
	fd, e := rawfs.Open(o.obj.fd, &dot, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if e != 0 {
		return nil, e
	}
	defer unix.Close(fd)
	buf := o.fs.bufs.Get()
	defer o.fs.bufs.Put(buf)
	return l, l.Read(fd, buf[:], cookie, o.fs.listing, o.claim)
}

// largeListings and rootListings are how many calls may hold a large listing
// at once, in all and of one root.
const (
	largeListings = 8
	rootListings  = 2
)

// claim waits for the right to hold a large listing until the call ends.
func (o *op) claim() {
	if !o.large {
		o.waits()
		o.exp.root.listings <- struct{}{}
		o.fs.large <- struct{}{}
		o.large = true
	}
}

// unclaim gives that right back.
func (o *op) unclaim() {
	if o.large {
		<-o.fs.large
		<-o.exp.root.listings
		o.large = false
	}
}
