//! Makes what runs equal to what should run, and places it
