"""An evaluator and a plugin for Interlock."""
