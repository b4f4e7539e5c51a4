// Package commit brings changes to disk, with one sync for all the calls that wait for it.
package commit
