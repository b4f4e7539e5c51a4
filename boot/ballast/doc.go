// Package ballast keeps some blocks of a file system, in a file, for what must be written when other programs have left none.
//
// The reserve of rubus.yaml binds boards alone: another program may take the last block.
// What a board needs to boot then is little, and mostly replaces what was there: its
// record, and the directory that overlayfs makes at each mount. On xfs even
// what needs no block asks for some (fs/xfs/libxfs/xfs_trans_space.h, Linux 6.1 to 6.18).
package ballast
