// Package shown remembers the names of golden files whose handles clients have, and of which
// the kernel may know none.
package shown
