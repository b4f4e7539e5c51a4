// Package ui is how the command talks to people: errors with hints, tables and questions.
package ui
