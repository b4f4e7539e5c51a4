// Package spool keeps a stream in a file without a name, so that it can be read anywhere while it comes.
package spool
