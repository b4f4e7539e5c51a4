package writes

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNoSpace says that something would take the space which is kept for rubus' own
// records and for boards that boot.
var ErrNoSpace = errors.New("not enough space")

// Fits says whether so many bytes more leave the reserve of a state directory free: the
// error wraps ErrNoSpace. What is shared takes nothing where the file system can share.
func Fits(state string, reserve, bytes int64, shared bool) error {
	if reserve == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(state, &st); err != nil {
		return fmt.Errorf("asking for the free space of %q: %w", state, err)
	}
	if shared && (st.Type == unix.XFS_SUPER_MAGIC || st.Type == unix.BTRFS_SUPER_MAGIC) {
		bytes = 0
	}
	free := int64(st.Bavail) * st.Bsize
	if bytes <= free-reserve {
		return nil
	}
	return fmt.Errorf("%w: the copy takes %d MiB, and %d MiB are free where the state directory is, of which %d MiB stay free", ErrNoSpace, bytes>>20, free>>20, reserve>>20)
}
