// Package disk reads the partition tables of disk images.
package disk
