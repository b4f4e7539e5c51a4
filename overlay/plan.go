package overlay

import (
	"fmt"
	"path/filepath"
	"strings"

	"rubus/config/device"
)

// Spec says which overlay to mount for a board.
type Spec struct {
	Serial device.Serial
	// Base is the stack that UpperID was made over.
	Base Base
	// LayerDirs holds the layers' directories, the bottom one first.
	LayerDirs []string
	// UpperDir holds the directories upper and work; see Uppers.
	UpperDir string
	UpperID  UpperID
	// Target is the mount point. It is made when missing, and so is its
	// parent, which has to be closed to all but root.
	Target string
	// XIno is set when layers and upper lie on different file systems: inode
	// numbers are then made unique by the kernel. Mount sets it as needed.
	XIno bool
}

// MountPlan is a planned mount, as data.
type MountPlan struct {
	Source string
	Target string
	// Lower holds the layers' directories, the top one first, as overlayfs
	// wants them.
	Lower       []string
	Upper, Work string
	Options     []Option
}

// Option is one option of an overlay mount.
type Option struct{ Key, Value string }

const (
	sourcePrefix = "rubus"
	// maxLayers is the kernel's OVL_MAX_STACK.
	maxLayers = 500
)

// Plan works out the mount for a spec. It touches nothing.
//
// The options: nfs_export gives every object a handle that survives copy-up,
// rename and remount, and needs index, which also keeps hard links of a lower
// file together. redirect_dir=on lets a board rename directories of its golden
// image, as on its own disk; without it rename(2) is EXDEV. The attribute it
// uses (trusted.overlay.redirect) can't be forged: NFSv3 has no attributes, and
// imports drop it. metacopy=off since it conflicts with nfs_export.
func Plan(s Spec) (MountPlan, error) {
	switch {
	case s.Serial.IsZero():
		return MountPlan{}, fmt.Errorf("planning overlay: %w", device.ErrNoSerial)
	case len(s.LayerDirs) == 0 || len(s.LayerDirs) > maxLayers:
		return MountPlan{}, fmt.Errorf("planning overlay of %s: %d layers, want 1 to %d", s.Serial, len(s.LayerDirs), maxLayers)
	case len(s.LayerDirs) != len(s.Base.Digests):
		return MountPlan{}, fmt.Errorf("planning overlay of %s: %d layers for a base of %d", s.Serial, len(s.LayerDirs), len(s.Base.Digests))
	case s.UpperID.Base() != s.Base.ID:
		return MountPlan{}, fmt.Errorf("planning overlay of %s: upper %q over base %q: %w", s.Serial, s.UpperID, s.Base.ID, ErrOtherBase)
	}
	for _, p := range append([]string{s.UpperDir, s.Target}, s.LayerDirs...) {
		if !filepath.IsAbs(p) {
			return MountPlan{}, fmt.Errorf("planning overlay of %s: path %q is not absolute", s.Serial, p)
		}
	}
	m := MountPlan{
		Source: fmt.Sprintf("%s:%s:%s:%s", sourcePrefix, s.Serial, s.Base.ID, s.UpperID),
		Target: filepath.Clean(s.Target),
		Upper:  filepath.Join(s.UpperDir, "upper"),
		Work:   filepath.Join(s.UpperDir, "work"),
		Options: []Option{
			{"index", "on"}, {"nfs_export", "on"}, {"redirect_dir", "on"}, {"metacopy", "off"},
		},
	}
	if s.XIno {
		m.Options = append(m.Options, Option{"xino", "on"})
	}
	for i := len(s.LayerDirs) - 1; i >= 0; i-- {
		m.Lower = append(m.Lower, s.LayerDirs[i])
	}
	return m, nil
}

// Root is a mounted overlay of ours.
type Root struct {
	Serial  device.Serial
	BaseID  string
	UpperID UpperID
	Target  string
	// MountID is the id in mountinfo. A root that was adopted keeps it.
	MountID int
}

// parseSource reads back what Plan wrote as a mount's source.
func parseSource(source string) (Root, bool) {
	parts := strings.Split(source, ":")
	if len(parts) != 4 || parts[0] != sourcePrefix {
		return Root{}, false
	}
	serial, err := device.ParseSerial(parts[1])
	upper, errUpper := ParseUpperID(parts[3])
	if err != nil || errUpper != nil || upper.Base() != parts[2] || serial.String() != parts[1] {
		return Root{}, false
	}
	return Root{Serial: serial, BaseID: parts[2], UpperID: upper}, true
}
