// Package reserve keeps a part of a disk free, whatever many calls at once want of it.
package reserve
