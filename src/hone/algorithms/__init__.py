"""Post-training methods, written against the official `tinker` SDK: any backend that speaks its protocol will do."""
