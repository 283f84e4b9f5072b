//! Starts real QuestDB, PostgreSQL and Redis as local processes, for the operator and for tests.
