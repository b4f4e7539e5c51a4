package knfsd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
)

// inits says when the init of a root is read: the kernel's server tells inotify,
// as everybody's reads do.
type inits struct {
	file *os.File
	fd   int // of file, which stays non-blocking
	tell func(nfsexport.ID)
	done chan struct{}

	mu   sync.Mutex
	byWD map[int32]nfsexport.ID
	byID map[nfsexport.ID]watched
}

type watched struct {
	wd  int32
	ino uint64
}

// newInits starts to listen. tell is called from a goroutine of its own, which
// close ends.
func newInits(tell func(nfsexport.ID)) (*inits, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("making an inotify instance: %w", err)
	}
	w := &inits{
		file: os.NewFile(uintptr(fd), "inotify"), fd: fd, tell: tell, done: make(chan struct{}),
		byWD: map[int32]nfsexport.ID{}, byID: map[nfsexport.ID]watched{},
	}
	go w.read()
	return w, nil
}

func (w *inits) close() error {
	err := w.file.Close()
	<-w.done
	return err
}

func (w *inits) read() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return // closed
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			b = b[min(len(b), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:]))):]
			w.mu.Lock()
			id, ok := w.byWD[wd]
			if mask&unix.IN_IGNORED != 0 && ok {
				delete(w.byWD, wd)
				delete(w.byID, id)
			}
			w.mu.Unlock()
			if ok && mask&unix.IN_ACCESS != 0 {
				w.tell(id)
			}
		}
	}
}

// watch has reads of the init of a root told, which is the program with the inode
// number ino; 0: none. Symlinks in the root are the board's: they stay in it.
func (w *inits) watch(id nfsexport.ID, root string, ino uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.byID[id]; ok && old.ino == ino {
		return nil
	}
	w.drop(id)
	if ino == 0 {
		return nil
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the root: %w", err)
	}
	defer unix.Close(dir)
	for _, name := range []string{"sbin/init", "etc/init", "bin/init"} {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			continue
		}
		var st unix.Stat_t
		wd := 0
		if err = unix.Fstat(fd, &st); err == nil && st.Ino == ino {
			wd, err = unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", fd), unix.IN_ACCESS)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("watching %q: %w", name, err)
		}
		if st.Ino == ino {
			w.byWD[int32(wd)], w.byID[id] = id, watched{int32(wd), ino}
			return nil
		}
	}
	return errors.New("its init is gone")
}

// forget ends what watch began.
func (w *inits) forget(id nfsexport.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(id)
}

func (w *inits) drop(id nfsexport.ID) {
	if old, ok := w.byID[id]; ok {
		_, _ = unix.InotifyRmWatch(w.fd, uint32(old.wd)) // it may be gone with the mount
		delete(w.byWD, old.wd)
		delete(w.byID, id)
	}
}
