package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
)

// Calls beside writers: boards that bring each WRITE to the disk before they go on, as
// databases and logs do, must not hold up what others ask for.

const (
	// besideRate is how many calls a second are asked for: few enough for each to come
	// alone, so that it finds what the writers have the server do, and not its own kind.
	besideRate = 2000
	// syncedSize is the size of each WRITE and syncedLen that of the file it goes to.
	syncedSize, syncedLen = 4 * kib, 4 << 20
)

// writers are the numbers of them that calls are measured beside.
func writers() []int { return []int{1, 8} }

func mostWriters() int { return slices.Max(writers()) }

// besideNames are the operations that are measured beside writers: GETATTR+8 is a GETATTR
// beside eight.
func besideNames() (all []string) {
	for _, op := range []string{"GETATTR", "READ-4K", "READ-128K"} {
		for _, n := range writers() {
			all = append(all, beside(op, n))
		}
	}
	return all
}

func beside(op string, writers int) string { return fmt.Sprintf("%s+%d", op, writers) }

// besideWriters makes besideNames of ops. Each writer has one of the files.
func besideWriters(ops []operation, files []nfsload.Handle) (all []operation) {
	load := nfsload.Load{Check: isOnDisk}
	data := slices.Repeat([]byte("on disk!"), syncedSize/8)
	for i, h := range files {
		var calls []nfsload.Call
		for _, at := range rand.New(rand.NewPCG(3, uint64(i))).Perm(syncedLen / syncedSize) {
			calls = append(calls, nfsload.WriteSync(h, uint64(at)*syncedSize, data))
		}
		load.Calls = append(load.Calls, calls)
	}
	for _, op := range ops {
		for _, n := range writers() {
			few := load
			few.Calls = load.Calls[:n]
			op := op
			if op.name, op.writers = beside(op.name, n), &few; slices.Contains(besideNames(), op.name) {
				all = append(all, op)
			}
		}
	}
	return all
}

// isOnDisk says whether a WRITE is answered as one that is on the disk whole.
func isOnDisk(r *nfsload.Reply) error {
	n, how, err := nfsload.Written(r)
	if err == nil && (n != syncedSize || how != nfs3.FileSync) {
		err = errors.New("a WRITE was answered before it was on the disk")
	}
	return err
}

// measureBeside measures an operation beside its writers. What the loads before left in
// memory goes to the disk first: it is not theirs.
func (all *results) measureBeside(o *options, p *process, k serverKind, op *operation) error {
	unix.Sync()
	m, err := oneBeside(o, p, op, dialNFS)
	if err != nil {
		return err
	}
	all.beside.add(op.name, k.name, m.figure)
	all.first = all.first && m.first
	return nil
}

// oneBeside measures one operation while its writers write, each with one WRITE under way
// at all times.
func oneBeside(o *options, p *process, op *operation, dial func() (*nfsload.Conn, error)) (m measured, err error) {
	err = with(len(op.writers.Calls), dial, func(conns []*nfsload.Conn) error {
		written, err := nfsload.Meanwhile(conns, 1, op.writers, func() (err error) {
			if _, err = onePaced(o, p, op, besideRate, o.time/8, dial); err == nil {
				m, err = onePaced(o, p, op, besideRate, o.time, dial)
			}
			return err
		})
		if err == nil {
			m.CPU = 0 // it is the writers', most of it
			m.Writes = float64(written.Calls) / written.Elapsed.Seconds()
		}
		return err
	})
	return m, err
}

// printBeside prints a row per operation and server. Our own says what part of theirs our
// middle one and our slowest in a hundred take.
func printBeside(w io.Writer, all figures) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| %-11s | %-8s | %7s | %7s | %7s | %8s | %7s | %7s |\n",
		"beside", "server", "ops/s", "p50 us", "p99 us", "writes/s", "p50 =", "p99 =")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|")
	for _, op := range besideNames() {
		for _, server := range servers() {
			rounds := all[op][server]
			if len(rounds) == 0 {
				continue
			}
			f, p50, p99 := middle(rounds), "", ""
			if theirs := all[op]["ganesha"]; server == "rubus" && len(theirs) > 0 {
				p50 = fmt.Sprintf("%.2f x", ratio(f.P50, middle(theirs).P50))
				p99 = fmt.Sprintf("%.2f x", ratio(f.P99, middle(theirs).P99))
			}
			fmt.Fprintf(w, "| %-11s | %-8s | %7.0f | %7.0f | %7.0f | %8.0f | %7s | %7s |\n",
				op, server, f.OpsPerSec, us(f.P50), us(f.P99), f.Writes, p50, p99)
		}
	}
}
