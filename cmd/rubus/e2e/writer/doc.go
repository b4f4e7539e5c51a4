// Command writer writes to a board's root and keeps account of what was
// acknowledged: what it says is there must be there, whatever happened since.
package main
