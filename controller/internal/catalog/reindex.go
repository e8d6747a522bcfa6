package catalog

// reindex makes every index, and the totals, of the records that are there.
func (tx *Tx) reindex() error {
	for _, b := range indexBuckets() {
		if err := tx.bolt.DeleteBucket([]byte(b)); err != nil {
			return classify(err)
		}
		if _, err := tx.bolt.CreateBucket([]byte(b)); err != nil {
			return classify(err)
		}
	}
	for _, step := range []func(*Tx) error{indexAgents, indexTokens, indexInstances, indexJobs, indexSnapshots, indexPacks} {
		if err := step(tx); err != nil {
			return err
		}
	}
	return nil
}

// walkRecords decodes every record of a bucket. fn may write to indexes.
func walkRecords[M any, P message[M], R any](tx *Tx, b bucket, from func(*decoder, P) R, fn func(R) error) error {
	c := tx.cursor(b)
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, err := decode(b, k, v, from)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func indexAgents(tx *Tx) error {
	return walkRecords(tx, bucketAgents, fromAgent, func(a Agent) error { return tx.index(indexAgentNames, []byte(a.Name), a.ID[:]) })
}

func indexTokens(tx *Tx) error {
	return walkRecords(tx, bucketTokens, fromToken, func(t Token) error {
		key, err := tokenKey(t.ID)
		if err != nil {
			return err
		}
		return tx.index(indexTokenTimes, join(newest(t.Created), key), []byte{})
	})
}

func indexInstances(tx *Tx) error {
	return walkRecords(tx, bucketInstances, fromInstance, func(i Instance) error {
		return tx.index(indexInstanceNames, []byte(i.FullName()), i.ID[:])
	})
}

func indexJobs(tx *Tx) error {
	return walkRecords(tx, bucketJobs, fromJob, func(j Job) error {
		for b, key := range map[bucket][]byte{indexJobTimes: jobTimeKey(j), indexJobInstances: jobInstanceKey(j), indexJobStates: jobStateKey(j)} {
			if err := tx.index(b, key, []byte{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func indexSnapshots(tx *Tx) error {
	var totals Totals
	err := walkRecords(tx, bucketSnapshots, fromSnapshot, func(s Snapshot) error {
		totals = totals.with(s)
		if err := tx.index(indexSnapshotTimes, snapshotTimeKey(s), []byte{}); err != nil {
			return err
		}
		return tx.index(indexSnapshotInstances, snapshotInstanceKey(s), []byte{})
	})
	if err != nil || totals == (Totals{}) {
		return err
	}
	return tx.put(bucketMeta, []byte(keyTotals), toTotals(totals))
}

func indexPacks(tx *Tx) error {
	return walkRecords(tx, bucketPacks, fromPack, func(p Pack) error { return tx.move(indexPacksOpen, nil, openKey(p)) })
}
