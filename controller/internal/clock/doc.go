// Package clock decides whether the controller's clock may be believed: a clock
// that is wrong must never make anything go that a right one would keep.
//
// Who else tells the time: the store, where it has a clock of its own; the agents,
// with each heartbeat; and the last time at which the clock was believed, moved on
// by the monotonic clock while this process runs. The times of log records are no
// witness: a wrong clock writes wrong ones, and would vouch for itself.
//
// Judge decides and is pure; Guard asks the witnesses and remembers.
package clock
