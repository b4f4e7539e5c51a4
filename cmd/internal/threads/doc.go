// Package threads has as many threads run Go code at once as there are processors, and as calls wait for disks.
package threads
