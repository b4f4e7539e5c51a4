// Package listing keeps directories as they were read, with their entries as they are sent.
package listing
