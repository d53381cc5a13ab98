//! What a command is: its row, arguments, context, errors and outcome.
