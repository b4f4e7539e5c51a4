// Package rollout moves the boards of batches to another version: canaries first, the rest when
// those are good, and all of them back when that is asked for.
//
// It knows no mounts, no exports and no locks of boards: how one board moves is for whoever
// implements Boards. What is to become of whom is on disk (boot/batch) before anything is done,
// so a batch goes on after a crash.
package rollout
