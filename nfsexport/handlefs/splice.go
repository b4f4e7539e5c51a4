package handlefs

// spliceFrom is the least read that costs less when its data is not copied.
const spliceFrom = 32 << 10

// splice has n bytes of the call's file sent from its pages, if nobody writes to these.
// What cannot be read rawfs.Read will say. It gives the number of bytes; 0: none.
func (o *op) splice(fd int, off uint64, n int) int {
	n = int(min(uint64(n), uint64(o.st.Size)-off))
	if o.c.Splice == nil || n < spliceFrom || o.obj.rw.Load() >= 0 || !o.golden() {
		return 0
	}
	return o.c.Splice(fd, int64(off), n)
}
