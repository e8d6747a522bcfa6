// Package process keeps the memory of a program that holds keys from files of the
// operating system.
package process
