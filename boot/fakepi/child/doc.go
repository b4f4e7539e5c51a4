// Package child runs a program that does not outlive this one.
package child
