"""The classes that users fit: thin, shaped like scikit-learn's."""
