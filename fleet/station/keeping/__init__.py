"""What a station keeps: its ledger, its journal, its lease and the CA under it, outliving power cuts."""
