package s3

// SmallPages has lists come in many pages.
func (s *Store) SmallPages() { s.page = 2 }
