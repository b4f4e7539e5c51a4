// Package fat reads FAT file systems out of images, without a mount.
//
// It is made for a Pi's boot partition: FAT32 with clusters from 512 bytes on, and
// so with tables of megabytes; FAT12 and FAT16 too. Long names are read, and short ones
// as Linux shows them. It never writes. What it reads may be hostile: chains that
// loop or lead nowhere are errors, and all files together hold no more than the
// file system.
//
// The layout is that of Microsoft's "FAT: General Overview of On-Disk Format".
package fat
