// Package rebasecmd has "rubus device rebase", which takes boards with their writes to other versions, one or many at a time.
package rebasecmd
